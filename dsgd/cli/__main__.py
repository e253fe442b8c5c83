"""`python -m dsgd.cli` is `dsgd`."""

from dsgd.cli import script

if __name__ == "__main__":
    script()
