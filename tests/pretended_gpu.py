"""A GPU that is not there: tensors "on cuda" compute on the processor, and may not meet others.

Inside ``with pretended_gpu():`` torch says that one CUDA device is there. Tensors that are made on
it or moved to it are marked. A marked one that meets one of the processor's (of one dimension or
more), or is handed to numpy, raises as on a real GPU; so a test on a machine without one finds the
``.to(device)`` that is missing.

It cannot show speed, memory, or kernels that differ on a GPU; inside the transforms of
`torch.func` tensors are let through.
"""

import contextlib
import sys
import unittest.mock as mock
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")

# what may be asked of a tensor wherever it lies
_FREE = {
    "__repr__", "__format__", "size", "dim", "numel", "item", "tolist", "__bool__", "__len__",
    "__float__", "__int__", "__index__", "is_floating_point", "_has_compatible_shallow_copy_type",
}  # fmt: skip
_INDEXED = {"__getitem__", "__setitem__", "index_put_", "index"}  # indices may be the processor's
_MOVES = {"to", "cuda", "cpu", "type_as"}
_TRANSFORMS = ("grad", "grad_and_value", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "vmap",
               "functional_call")  # fmt: skip


class OnGPU(torch.Tensor):
    """A tensor that is said to be on the GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **more: Any) -> str:
        with torch._C.DisableTorchFunctionSubclass():
            return repr(self.as_subclass(torch.Tensor))

    def __deepcopy__(self, memo: dict) -> "OnGPU":
        if id(self) not in memo:
            with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
                made = self.as_subclass(torch.Tensor).detach().clone().as_subclass(OnGPU)
            made.requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                made._is_param = True
            memo[id(self)] = made
        return memo[id(self)]


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _put(tensor: Any, gpu: bool) -> Any:
    if not isinstance(tensor, torch.Tensor) or gpu == isinstance(tensor, OnGPU):
        return tensor
    return tensor.as_subclass(OnGPU if gpu else torch.Tensor)


def _wrapped(tensor: torch.Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


class _Mode(TorchFunctionMode):
    def __init__(self, default: bool) -> None:
        super().__init__()
        self.makers = _device_constructors() if default else ()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if not all(issubclass(kind, torch.Tensor) for kind in types):
            return func(*args, **kwargs)  # traced by torch.fx, without any number
        with torch._C.DisableTorchFunctionSubclass():
            if name == "__get__":
                return self._property(func, args, kwargs)
            tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
            gpu = any(isinstance(t, OnGPU) for t in tensors)
            if name in ("numpy", "__array__") and gpu:
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name in _MOVES:
                return self._moved(func, name, args, kwargs, gpu)
            if name in ("copy_", "set_"):
                return func(*args, **kwargs)
            target = gpu or func in self.makers
            if kwargs.get("device") is not None:
                target = _is_gpu(kwargs["device"])
                kwargs["device"] = CPU
            elif gpu and name not in _FREE | _INDEXED:
                self._apart(func, tensors)
            found = func(*args, **kwargs)
            if name in _FREE:
                return found
            given = {id(t) for t in tensors}
            return tree_map(lambda t: t if id(t) in given else _put(t, target), found)

    @staticmethod
    def _property(func, args, kwargs):
        owner, gpu = func.__self__, isinstance(args[0], OnGPU)
        if owner is torch.Tensor.device:
            return GPU if gpu else func(*args, **kwargs)
        if owner is torch.Tensor.is_cuda:
            return gpu
        found = func(*args, **kwargs)
        return _put(found, True) if gpu and type(found) is torch.Tensor else found

    @staticmethod
    def _apart(func, tensors):
        for t in tensors:
            if t.dim() and not isinstance(t, OnGPU) and not _wrapped(t):
                raise RuntimeError(
                    f"{getattr(func, '__name__', func)}: tensors on cuda:0 and on cpu meet"
                )

    @staticmethod
    def _moved(func, name, args, kwargs, gpu):
        if name == "cuda":
            return _put(args[0], True)
        if name == "cpu":
            return _put(args[0].clone() if gpu else args[0], False)
        if name == "type_as":
            return _put(func(*args, **kwargs), isinstance(args[1], OnGPU))
        where, rest = gpu, []
        for a in args[1:]:
            if isinstance(a, torch.device | str):
                where = _is_gpu(a)
            elif isinstance(a, torch.Tensor):
                where = isinstance(a, OnGPU)
                rest.append(a.dtype)
            elif a is not None and not isinstance(a, bool):
                rest.append(a)
        if (device := kwargs.pop("device", None)) is not None:
            where = _is_gpu(device)
        kwargs.pop("non_blocking", None)
        found = func(args[0], *rest, **kwargs) if rest or kwargs else args[0]
        if where != gpu and found is args[0]:
            found = found.clone()
        return _put(found, where)


class _Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


def _autograd(true: Callable) -> Callable:
    """`torch.autograd.grad` gives plain tensors: those of inputs on the GPU belong there."""

    def grad(outputs, inputs, *args, **kwargs):
        found = true(outputs, inputs, *args, **kwargs)
        given = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
        pairs = zip(found, given, strict=True)
        return tuple(f if f is None else _put(f, isinstance(x, OnGPU)) for f, x in pairs)

    return grad


def _saved(true: Callable) -> Callable:
    """Files hold plain tensors."""
    return lambda found, *args, **kwargs: true(
        tree_map(lambda t: _put(t, False), found), *args, **kwargs
    )


def _loaded(true: Callable) -> Callable:
    """What a file holds, where it is asked to be put; a real one would go where it was, else."""

    def load(*args, map_location=None, **kwargs):
        found = true(*args, map_location="cpu", **kwargs)
        return tree_map(lambda t: _put(t, _is_gpu(map_location)), found)

    return load


def _transform(true: Callable) -> Callable:
    """A transform of `torch.func`: what comes out is where what goes in is."""

    def on_gpu(*given: Any) -> bool:
        return any(isinstance(t, OnGPU) for t in tree_leaves(given))

    def placed(found: Any, gpu: bool) -> Any:
        if callable(found) and not isinstance(found, torch.Tensor):  # vjp's second part
            return lambda *a, **k: tree_map(lambda t: _put(t, gpu), found(*a, **k))
        return tree_map(lambda t: _put(t, gpu) if not _lifted(t) else t, found)

    def transformed(*args, **kwargs):
        found = true(*args, **kwargs)
        if callable(found) and not isinstance(found, torch.Tensor):  # a function of tensors
            return lambda *a, **k: placed(found(*a, **k), on_gpu(a, k))
        if isinstance(found, tuple) and any(map(callable, found)):
            return tuple(placed(part, on_gpu(args, kwargs)) for part in found)
        return placed(found, on_gpu(args, kwargs))

    return transformed


def _lifted(t: Any) -> bool:
    return isinstance(t, torch.Tensor) and _wrapped(t)


@contextlib.contextmanager
def pretended_gpu(*, default: bool = False) -> Iterator[None]:
    """One CUDA device, as far as the code inside can tell.

    default: tensors that are made without a device are made on it.
    """
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    cuda = {
        "is_available": lambda: True, "device_count": lambda: 1, "synchronize": lambda *a: None,
        "get_device_name": lambda *a: "pretended GPU", "_lazy_init": lambda: None,
        "get_rng_state": lambda *a: torch.get_rng_state(),
        "set_rng_state": lambda state, *a: torch.set_rng_state(state),
    }  # fmt: skip
    try:
        with contextlib.ExitStack() as stack:
            for name, stand_in in cuda.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
            stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
            # optimisers ask the accelerator whether a graph is being captured
            none = mock.patch.object(torch.accelerator, "current_accelerator", lambda *a, **k: None)
            stack.enter_context(none)
            for module, name, make in (
                (torch.autograd, "grad", _autograd),
                (torch, "save", _saved),
                (torch, "load", _loaded),
            ):
                stand_in = make(getattr(module, name))
                stack.enter_context(mock.patch.object(module, name, stand_in))
            for module, name, true in _uses_of_transforms():
                stack.enter_context(mock.patch.object(module, name, _transform(true)))
            stack.enter_context(_Mode(default))
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _uses_of_transforms() -> Iterator[tuple[Any, str, Callable]]:
    """Where the package and `torch.func` name a transform: modules took them when imported."""
    true = {getattr(torch.func, name): name for name in _TRANSFORMS}
    own = [module for name, module in sys.modules.items() if name.startswith("helpers")]
    for module in [torch.func, *own]:
        for name, value in list(vars(module).items()):
            if callable(value) and getattr(value, "__hash__", None) and value in true:
                yield module, name, value
