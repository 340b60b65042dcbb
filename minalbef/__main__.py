"""`python -m minalbef`: the command line."""
from minalbef.cli.main import main

if __name__ == "__main__":
    main()
