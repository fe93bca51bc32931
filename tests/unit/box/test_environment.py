"""Which variables of the script's environment an engine gets."""

from __future__ import annotations

import pytest

from sluice.box.environment import dump, of_engine, read


def test_what_is_written_is_read() -> None:
    given = {"A": "1", "VLLM_X": "a=b\nc", "EMPTY": "", "BYTES": "\udcff"}
    assert read(dump(given)) == given
    assert read(b"") == {}


@pytest.mark.parametrize("text", [b"A\0", b"1A=x\0", b"A B=x\0", b"=x\0", b"A-B=x\0"])
def test_what_is_no_variable_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a variable"):
        read(text)


def test_the_jobs_and_slurms_own_variables_stay_outside() -> None:
    script = {"SLUICE_NONCE": "1", "SLURM_JOB_ID": "2", "SLURMD_NODENAME": "c1", "SHLVL": "1", "PWD": "/x"}
    kept = {"CUDA_VISIBLE_DEVICES": "0", "HOME": "/p", "SLURP": "1"}
    assert of_engine({**script, **kept}, "sluice") == {**kept, "USER": "sluice", "LOGNAME": "sluice"}
