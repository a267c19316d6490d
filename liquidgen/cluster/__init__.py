"""Work spread over several machines by Ray (extra `cluster`)."""
