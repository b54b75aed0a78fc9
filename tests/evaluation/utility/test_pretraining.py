"""Pretraining: classes of perfect tiles help where real ones are few, exchanged ones do not; the published numbers."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnasynth.data.cohort import Cohort
from rnasynth.data.papers import read_hyperparameters
from rnasynth.errors import InputError, RunError
from rnasynth.evaluation.utility import protocols
from rnasynth.evaluation.utility.pretraining import ARMS, PretrainingReport, pretraining_study
from rnasynth.evaluation.utility.protocols import PROTOCOLS, Protocol
from rnasynth.nets.resnet import ResNet
from rnasynth.runs import Run, get_or_train
from rnasynth.systems.classifier import load_start
from tests.evaluation.utility.planted import planted, protocol

SPREAD = 16  # of the grey levels: few tiles do not tell the classes apart


@pytest.fixture(scope="module")
def helped(patients: Cohort) -> PretrainingReport:
    return pretraining_study(planted(patients, spread=SPREAD), n_boot=50)


def test_classes_of_perfect_tiles_help_and_exchanged_ones_do_not(patients: Cohort, helped: PretrainingReport) -> None:
    size, gain = helped.best_gain("classes_made")
    assert size == 5 and gain.value > 0.15
    assert helped.numbers["classes_100_alone_accuracy"].value > 0.6
    broken = pretraining_study(planted(patients, "swapped", spread=SPREAD, sizes=(5,)), n_boot=50)
    assert broken.numbers["classes_100_alone_accuracy"].value < 0.3
    # Its features serve real tiles at a high rate all the same; at the published rate the wrong classes stay.
    assert broken.numbers["classes_100_accuracy"].value < 0.4


def test_the_report_has_every_arm_at_every_size_and_says_what_it_compares(helped: PretrainingReport) -> None:
    assert set(helped.curve["group"]) == set(ARMS.values()) and helped.sizes == (5, 40)
    assert len(helped.table) == len(ARMS) * 2 and set(helped.numbers) == set(helped.labels)
    assert helped.answering == "simclr_made_low" and helped.pretrained_on == 72
    assert "same compute" in helped.note() and set(helped.shares.index) == {"50 %", "100 %"}
    base, gain = helped.numbers["scratch_40_accuracy"], helped.numbers["simclr_made_40_gain"]
    beside = helped.beside_scratch("simclr_made", 40)
    assert beside.value == pytest.approx(100 * (base.value + gain.value)) and beside.low <= beside.value <= beside.high
    answers = helped.answers()
    assert {"msi_ssl_accuracy", "rna_gan_scratch_accuracy", "pretraining_helps"} <= {
        a.get("paper") for a in answers.values()
    }
    assert answers["best_gain"]["value"].value == pytest.approx(100 * helped.best_gain(helped.answering)[1].value)
    over = helped.numbers["simclr_made_5_gain"].value - helped.numbers["simclr_real_5_gain"].value
    assert helped.numbers["made_over_real_5"].value == pytest.approx(over)
    assert helped.worst_gain("classes_made")[1].value <= helped.best_gain("classes_made")[1].value


def test_more_tiles_than_there_are_is_an_error(patients: Cohort) -> None:
    with pytest.raises(InputError, match="real training tiles"):
        pretraining_study(planted(patients, sizes=(100_000,)))


def test_equal_compute_shows_as_many_pictures() -> None:
    found = protocol()
    pictures = 3 * 16 * 2 + 30 * 10  # two views of each tile; a batch is no larger than the tiles
    assert found.steps_of_equal_compute(10, 80) * 10 == pytest.approx(pictures, abs=9)
    train = replace(found.scratch.train, steps=None, epochs=2.0)
    found = replace(found, scratch=replace(found.scratch, train=train))
    assert found.steps_on_real(40) == 5 and found.steps_on_real(10) == 2


def read(system: str) -> dict[str, Any]:
    table = read_hyperparameters(system).set_index("field")["value"]
    return {str(name): json.loads(value) if value[0] in "0123456789[tf" else value for name, value in table.items()}


def test_paper_protocols_are_the_printed_numbers() -> None:
    paper, two, msi = protocols.paper(), protocols.paper_two_tissues(), protocols.paper_msi()
    printed = read("substitution/rna-cdm")
    assert [paper.tiles, list(paper.shares[1:4]), paper.folds] == [printed["tiles"], printed["shares"], printed["folds"]]
    assert paper.shares == (0.0, *printed["shares"], 1.0)  # the last is ours
    printed = read("classifier/rna-cdm")
    for part in (paper.scratch, paper.supervised):
        assert part.learning_rate == printed["lr"] and f"resnet{part.depth}" == printed["network"]
    assert paper.scratch.train.epochs == printed["epochs"]
    printed = read("pretraining/rna-cdm")
    assert [paper.pretraining_tiles * share for share in paper.pretraining_shares] == printed["tiles"]
    assert paper.supervised.train.epochs == printed["epochs"]
    assert (paper.supervised.train.patience is not None) == printed["early_stopping"]
    printed = read("finetune/rna-cdm")
    assert paper.tuned_rate == printed["lr"] and paper.tuned_epochs == printed["epochs"]
    printed, tuned = read("simclr/rna-gan"), read("finetune/rna-gan")
    simclr = two.simclr
    assert [simclr.optimizer, simclr.learning_rate, simclr.momentum, simclr.weight_decay, simclr.train.epochs] == [
        printed[name] for name in ("optimizer", "lr", "momentum", "weight_decay", "epochs")
    ]
    assert two.pretraining_tiles == printed["tiles"] and f"resnet{simclr.depth}" == printed["network"] and not simclr.warmup
    assert [two.scratch.learning_rate, two.scratch.weight_decay, two.scratch.train.epochs, two.folds] == [
        tuned[name] for name in ("lr", "weight_decay", "epochs", "folds")
    ]
    assert two.scratch.train.batch_size == tuned["batch_size"] and two.tuned_rate == two.scratch.learning_rate
    assert two.sizes == (2 * tuned["tiles_per_class"],)
    printed, status = read("simclr/rna-cdm"), read("msi/rna-cdm")
    assert msi.pretraining_tiles == printed["tiles"] and msi.simclr.train.epochs == printed["epochs"]
    assert f"resnet{msi.simclr.depth}" == printed["network"]
    assert [msi.scratch.learning_rate, msi.tuned_rate, msi.scratch.train.epochs, msi.folds] == [
        status[name] for name in ("lr_scratch", "lr_pretrained", "epochs", "folds")
    ]
    assert [msi.sizes[0], msi.sizes[-1], len(msi.sizes)] == [status["fewest_tiles"], status["most_tiles"], 4]


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_protocols_survive_json_and_take_the_generators_pixels(name: str) -> None:
    found = protocols.protocol(name, 64)
    assert Protocol.from_dict(found.to_dict()) == found
    assert {found.scratch.tile_px, found.supervised.tile_px, found.simclr.tile_px} == {64} and found.simclr.crop_px <= 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shares", (0.25, 0.5)),
        ("shares", (0.0, 0.5, 0.25)),
        ("left_out", (1.0,)),
        ("sizes", (40, 10)),
        ("margin", 0.0),
        ("pretraining_shares", ()),
        ("tuned_rate", 0.0),
        ("simclr", replace(protocol().simclr, width=8)),
    ],
)
def test_values_out_of_range_are_errors(field: str, value: Any) -> None:
    with pytest.raises(InputError):
        protocol(**{field: value})


@pytest.fixture(scope="module")
def larger(patients: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of SimCLR with a network of another size than the protocol's, in the folder of runs."""
    config = replace(protocol().simclr, width=8, stem="small")
    return get_or_train("simclr", config, patients, folder=tmp_path_factory.mktemp("larger"), progress=False)


def test_trainings_on_real_tiles_start_from_a_runs_network_and_have_its_size(larger: Run) -> None:
    before = protocol()
    found = protocols.starting_from(before, str(larger.path))
    sizes = {(part.depth, part.width, part.stem) for part in (found.scratch, found.supervised, found.simclr)}
    assert sizes == {(before.scratch.depth, 8, "small")} and before.scratch.width == 4
    assert found.scratch.start == str(larger.path) and not found.supervised.start  # the pretraining has its own weights
    size: dict[str, Any] = {"depth": before.scratch.depth, "width": 4, "stem": before.scratch.stem}
    back = replace(
        found,
        scratch=replace(found.scratch, **size, start=""),
        supervised=replace(found.supervised, **size),
        simclr=replace(found.simclr, **size),
    )
    assert back == before  # nothing else differs
    assert Protocol.from_dict(found.to_dict()) == found


def test_the_weights_fit_the_network_of_that_size_and_no_other(larger: Run) -> None:
    for part, fits in ((protocols.starting_from(protocol(), str(larger.path)).scratch, True), (protocol().scratch, False)):
        network = ResNet(depth=part.depth, width=part.width, stem=part.stem)
        with nullcontext() if fits else pytest.raises(InputError, match="another shape"):
            load_start(network, str(larger.path))


def test_no_start_leaves_a_protocol_as_it_is_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    assert protocols.starting_from(protocol(), "") == protocol()
    with pytest.raises(RunError, match="no-such-run"):
        protocols.starting_from(protocol(), str(tmp_path / "no-such-run"))


def test_unknown_protocols_are_errors() -> None:
    with pytest.raises(InputError, match="preset"):
        protocols.protocol("paper_moon")
    assert np.isclose(protocols.demo().margin, 0.1)
