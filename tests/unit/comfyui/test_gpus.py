"""Reading nvidia-smi's answer."""

from comfyworker.comfyui.gpus import Gpu, parse_nvidia_smi

MIB = 1024 * 1024


def test_each_line_is_a_gpu() -> None:
    """Memory is told in mebibytes and kept in bytes."""
    text = "0, NVIDIA H200, 570.124.06, 143771, 4\n1, NVIDIA GeForce RTX 4090, 570.124.06, 24564, 512\n"
    assert parse_nvidia_smi(text) == (
        Gpu(index=0, name="NVIDIA H200", driver="570.124.06", memory_bytes=143771 * MIB, used_bytes=4 * MIB),
        Gpu(
            index=1, name="NVIDIA GeForce RTX 4090", driver="570.124.06", memory_bytes=24564 * MIB, used_bytes=512 * MIB
        ),
    )


def test_memory_that_is_not_told_is_unknown() -> None:
    """Machines whose GPU shares the system's memory answer [N/A]."""
    expected = Gpu(index=0, name="NVIDIA GB10", driver="580.1", memory_bytes=None, used_bytes=None)
    assert parse_nvidia_smi("0, NVIDIA GB10, 580.1, [N/A], [N/A]\n") == (expected,)


def test_words_are_no_gpu() -> None:
    """What a driver in trouble says is not taken for a GPU."""
    assert parse_nvidia_smi("No devices were found\nUnable to determine the device handle, for GPU\n") == ()
