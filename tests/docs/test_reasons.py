"""The reasons of skipped files are explained to users."""

from helpers.checkout import PROJECT

from liquidgen.stages.download.sources.reasons import Reason


def test_each_reason_of_download_is_explained():
    page = (PROJECT / "docs/your-images.md").read_text()
    assert [reason for reason in Reason if f"| `{reason}` |" not in page] == []
