"""How near are tiles to real ones, how varied, and are any copies?"""
