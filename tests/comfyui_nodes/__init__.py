"""Custom nodes for the tests: faults, and kinds of output, that no core node shows.

ComfyUI loads this folder from its custom_nodes. Each class is named `Test…` and says what it is for.
"""

from .faults import TestBlock, TestCrash, TestOutOfMemory, TestRaise, TestSpawn, TestWait
from .pictures import TestColour, TestModelFile, TestNoise, TestOutputs

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        TestBlock,
        TestColour,
        TestCrash,
        TestModelFile,
        TestNoise,
        TestOutOfMemory,
        TestOutputs,
        TestRaise,
        TestSpawn,
        TestWait,
    )
}
