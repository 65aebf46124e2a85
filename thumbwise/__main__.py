"""`python -m thumbwise`: the command, for where the script is not on the path."""

from thumbwise.cli import main

if __name__ == "__main__":
    main()
