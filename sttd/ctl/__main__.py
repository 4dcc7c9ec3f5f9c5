"""`python -m sttd.ctl` is sttctl."""

from sttd.ctl.main import main

if __name__ == "__main__":
    main()
