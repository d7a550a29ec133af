"""`python -m memorization.report`."""

from memorization.report import main

main()
