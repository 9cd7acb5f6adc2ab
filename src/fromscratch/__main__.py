"""`python -m fromscratch`: the same command line as `fromscratch`."""

from fromscratch.cli.main import main

if __name__ == "__main__":
    main()
