"""TensorFlow's C API: the shared library that its wheel ships, by ctypes.

Running a session from Python's `tensorflow` costs several times what the
graph of a recommender costs. The C API (tensorflow/c/c_api.h, stable since
1.0) does without, and `import tensorflow` and its seconds are saved as well.

Calls that take microseconds keep Python's global lock, those that run or load
a graph release it.
"""

import contextlib
import ctypes
import functools
import importlib.util
import sys
import types
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from serving.errors import GraphError, LaunchError

_SUFFIX = "2.dylib" if sys.platform == "darwin" else "so.2"

# TF_Code of tensorflow/c/tf_status.h; the numbers are gRPC's.
OK = 0


class Output(ctypes.Structure):
    """TF_Output: one output of an operation of a graph."""

    _fields_ = [("operation", c_void_p), ("index", c_int)]


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes that the library has allocated."""

    _fields_ = [
        ("data", c_void_p),
        ("length", c_size_t),
        ("deallocator", c_void_p),
    ]


# Name, result, arguments of what is called.
_QUICK: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("TF_Version", c_char_p, ()),
    ("TF_NewStatus", c_void_p, ()),
    ("TF_DeleteStatus", None, (c_void_p,)),
    ("TF_GetCode", c_int, (c_void_p,)),
    ("TF_Message", c_char_p, (c_void_p,)),
    ("TF_NewBuffer", POINTER(Buffer), ()),
    ("TF_DeleteBuffer", None, (POINTER(Buffer),)),
    ("TF_NewSessionOptions", c_void_p, ()),
    ("TF_DeleteSessionOptions", None, (c_void_p,)),
    ("TF_SetConfig", None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    ("TF_NewGraph", c_void_p, ()),
    ("TF_GraphOperationByName", c_void_p, (c_void_p, c_char_p)),
    (
        "TF_AllocateTensor",
        c_void_p,
        (c_int, POINTER(c_int64), c_int, c_size_t),
    ),
    ("TF_DeleteTensor", None, (c_void_p,)),
    ("TF_TensorType", c_int, (c_void_p,)),
    ("TF_TensorData", c_void_p, (c_void_p,)),
    ("TF_TensorByteSize", c_size_t, (c_void_p,)),
    ("TF_NumDims", c_int, (c_void_p,)),
    ("TF_Dim", c_int64, (c_void_p, c_int)),
    ("TF_StringInit", None, (c_void_p,)),
    ("TF_StringAssignView", None, (c_void_p, c_char_p, c_size_t)),
    ("TF_StringGetDataPointer", c_void_p, (c_void_p,)),
    ("TF_StringGetSize", c_size_t, (c_void_p,)),
)
_LONG: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    (
        "TF_LoadSessionFromSavedModel",
        c_void_p,
        (
            c_void_p,  # TF_SessionOptions
            POINTER(Buffer),  # RunOptions
            c_char_p,  # folder
            POINTER(c_char_p),  # tags
            c_int,
            c_void_p,  # TF_Graph
            POINTER(Buffer),  # receives the MetaGraphDef
            c_void_p,  # TF_Status
        ),
    ),
    (
        "TF_SessionRun",
        None,
        (
            c_void_p,  # TF_Session
            POINTER(Buffer),  # RunOptions
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(c_void_p),  # target operations
            c_int,
            POINTER(Buffer),  # receives RunMetadata
            c_void_p,  # TF_Status
        ),
    ),
    ("TF_CloseSession", None, (c_void_p, c_void_p)),
    ("TF_DeleteSession", None, (c_void_p, c_void_p)),
    ("TF_DeleteGraph", None, (c_void_p,)),
)


def open_library(path: Path) -> Any:
    """Opens the shared library.

    Returns:
        An object whose attributes are the functions, with typed arguments.

    Raises:
        LaunchError: It can't be opened, or lacks a function.
    """
    functions = types.SimpleNamespace()
    try:
        for library, declarations in (
            (ctypes.PyDLL(str(path)), _QUICK),
            (ctypes.CDLL(str(path)), _LONG),
        ):
            for name, result, arguments in declarations:
                function = getattr(library, name)
                function.restype = result
                function.argtypes = arguments
                setattr(functions, name, function)
    except (OSError, AttributeError) as error:
        raise LaunchError(
            f"TensorFlow's C API can't be used from {path}: {error}"
        ) from error
    return functions


@functools.cache
def tensorflow() -> Any:
    """Returns the C API of the installed TensorFlow, which is not imported.

    Raises:
        LaunchError: TensorFlow is not installed, or its wheel has no C API.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise LaunchError(
            "TensorFlow is not installed; the embedded model server needs it."
        )
    folder = Path(spec.submodule_search_locations[0])
    return open_library(folder / f"libtensorflow_cc.{_SUFFIX}")


@contextlib.contextmanager
def checked() -> Iterator[int]:
    """Gives a TF_Status to pass to a call, and looks at it afterwards.

    Raises:
        GraphError: The call failed.
    """
    tf = tensorflow()
    status = tf.TF_NewStatus()
    try:
        yield status
        code = tf.TF_GetCode(status)
        if code != OK:
            message = tf.TF_Message(status).decode(errors="replace")
            raise GraphError(message, code)
    finally:
        tf.TF_DeleteStatus(status)
