"""What is passed on of the messages of other libraries."""

from specialize.errors import first_line


def test_a_reason_names_no_exception_class():
    assert first_line(OSError("Couldn't deserialize thrift: TProtocolException: Invalid data\nmore")) == (
        "Couldn't deserialize thrift: Invalid data"
    )
    assert first_line(ValueError()) == "ValueError"
    assert first_line("no Exception: here") == "no Exception: here"
