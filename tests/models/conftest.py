"""`--table FILE`: where to write what was seen."""


def pytest_addoption(parser):
    parser.addoption("--table", default="", help="write what was seen to this file")
