"""The form of a plain table of numbers, told from its first lines: delimiter, header, orientation, annotation columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from rnasynth.data.checks import gene_likeness
from rnasynth.data.genes import few, gene_id
from rnasynth.data.streams import MISSING, Layout, Lines, field_at, fields_of
from rnasynth.errors import InputError

GENE_HEADS = frozenset(
    ("gene", "genes", "gene_id", "geneid", "gene_name", "genename", "gene_symbol", "symbol", "name", "id_ref", "ensembl_id")
)
SAMPLE_HEADS = frozenset(("sample", "samples", "sample_id", "sampleid", "barcode", "patient", "patient_id", "case_id"))
SYMBOL_HEADS = ("symbol", "gene_name", "gene_symbol", "genename", "description", "hgnc_symbol")
NOT_SAMPLE_HEADS = frozenset(
    ("length", "gene_length", "start", "end", "width", "chr", "chromosome", "strand", "entrezid", "entrez_id", "entrez")
)
PEEK_LINES = 20
FEW = 5  # names of columns that are said
MANY_COLUMNS = 5000  # no table of one study has so many samples and its genes in rows; a transcriptome has


class TableForm:
    """A csv, tsv or GEO table as its first lines show it.

    Lines that start with `#` before the header are left out, and of a GEO series matrix everything but the table.

    Raises
    ------
    InputError : no table, or one column only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with Lines(path) as lines:
            header = self._to_header(lines)
            peek = [line for line in (lines.next() for _ in range(PEEK_LINES)) if line and not line.startswith(b"!")]
        if not header or not peek:
            raise InputError(
                str(path),
                expected="a header and at least one line of numbers",
                found="none",
                fix="a GEO series matrix of RNA-seq is often empty: fetch the supplementary table instead",
            )
        text = header.decode("utf-8", errors="replace")
        self.delimiter = next((mark for mark in "\t,;" if mark in text), "\t")
        self.header = [name.strip() for name in fields_of(header, self.delimiter)]
        self.peek = [fields_of(line, self.delimiter) for line in peek]
        self.quoted = any(b'"' in line for line in peek)
        self.n_fields = len(self.peek[0])
        if len(self.header) == self.n_fields - 1:  # R's write.table names no corner
            self.header.insert(0, "")
        if self.n_fields < 2 or len(self.header) != self.n_fields:
            raise InputError(
                str(path),
                expected="as many names in the header as fields in the lines, two or more",
                found=f"{len(self.header)} and {self.n_fields}",
                fix="check the delimiter (tab, comma or semicolon) and that the file is whole",
            )

    def lines(self) -> Lines:
        """Open the file after the header."""
        lines = Lines(self.path)
        self._to_header(lines)
        return lines

    def layout(self, columns: Sequence[int]) -> Layout:
        """Return where the numbers of some columns stand."""
        return Layout(self.path, self.delimiter, self.n_fields, np.array(columns, dtype=np.intp), self.quoted)

    def row_names(self) -> list[str]:
        """Return the first field of every line: one pass, nothing parsed."""
        with self.lines() as lines:
            delimiter = self.delimiter.encode()
            return [field_at(line, delimiter, 0) for line in lines if line[0][line[1]] != 33]

    def number_columns(self) -> list[int]:
        """Return the columns that hold samples (or genes): not the first, not annotation."""
        return [
            number
            for number in range(1, self.n_fields)
            if self.header[number].lower() not in NOT_SAMPLE_HEADS and self._is_number(number)
        ]

    def annotation(self) -> str:
        """Say which columns hold no numbers of samples or genes: "5 (length, strand, note, ...)", or "" for none.

        Their count and first names, for a reader: a column of genes with text among its numbers would be one of them.
        """
        numbers = set(self.number_columns())
        names = [name for number, name in enumerate(self.header) if number and number not in numbers]
        return f"{len(names)} ({', '.join(names[:FEW])}{', ...' if len(names) > FEW else ''})" if names else ""

    def symbol_field(self) -> int:
        """Return the column of gene symbols beside the first, or 0."""
        for number in range(1, min(self.n_fields, 12)):
            if self.header[number].lower() in SYMBOL_HEADS and not self._is_number(number):
                return number
        return 0

    def orientation(self, genes: Sequence[str] | None, samples: Sequence[str] | None) -> Literal["rows", "columns"]:
        """Tell whether genes stand in rows or in columns.

        In this order: the wanted names, what the ids look like, the header's corner, the number of columns.

        Raises
        ------
        InputError : nothing tells.
        """
        columns = [self.header[number] for number in self.number_columns()]
        rows = self.row_names()
        for wanted, here in ((genes, True), (samples, False)):
            if wanted:
                keys = {gene_id(name) for name in wanted}
                in_rows = len(keys & {gene_id(name) for name in rows})
                in_columns = len(keys & {gene_id(name) for name in columns})
                if in_rows != in_columns:
                    return "rows" if (in_rows > in_columns) is here else "columns"
        likeness = gene_likeness(rows) - gene_likeness(columns)
        if likeness:
            return "rows" if likeness > 0 else "columns"
        corner = self.header[0].lower()
        if corner in GENE_HEADS or corner in SAMPLE_HEADS:
            return "rows" if corner in GENE_HEADS else "columns"
        if max(len(rows), len(columns)) > MANY_COLUMNS:
            return "rows" if len(rows) > len(columns) else "columns"
        raise InputError(
            str(self.path),
            expected="ids by which genes and samples can be told apart",
            found=f"rows {few(rows)} and columns {few(columns)}",
            fix='pass genes_in="rows" or genes_in="columns"',
        )

    def _is_number(self, column: int) -> bool:
        values = (line[column].strip() for line in self.peek if len(line) > column)
        return all(_parses(value) for value in islice((value for value in values if value not in MISSING), 3))

    def _to_header(self, lines: Lines) -> bytes:
        line = lines.next()
        if line.startswith(b"!"):
            while line and not line.lower().startswith(b"!series_matrix_table_begin"):
                line = lines.next()
            return lines.next()
        while line.startswith(b"#"):
            line = lines.next()
        return line


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
