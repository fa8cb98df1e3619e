"""`python -m segue_cli`: the `segue` command where its script is not on the path."""

from segue_cli.main import main

if __name__ == "__main__":
    main()
