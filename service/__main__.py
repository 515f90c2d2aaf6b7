"""`python -m service` is `holdfast`."""

from service.cli import main

main(prog_name="holdfast")
