"""ggml's C functions for graphs and devices, declared by their own C prototypes.

`PROTOTYPES` has the text of ggml.h, ggml-alloc.h, ggml-backend.h and ggml-cpu.h; a test compares it
with the headers that llama-cpp-python installs. Every pointer and handle is a plain address.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import Any

from m2m.errors import LlamaError
from m2m.ggml import log
from m2m.kernels import library

F32, F16, Q8_0, I32, BF16 = 0, 1, 8, 26, 30  # enum ggml_type, ggml.h
CPU, GPU, IGPU, ACCEL = 0, 1, 2, 3  # enum ggml_backend_dev_type, ggml-backend.h
NORMAL, NEOX = 0, 2  # GGML_ROPE_TYPE_*, ggml.h

PROTOTYPES = """
struct ggml_context * ggml_init(struct ggml_init_params params);
void ggml_free(struct ggml_context * ctx);
size_t ggml_tensor_overhead(void);
size_t ggml_graph_overhead_custom(size_t size, bool grads);
size_t ggml_nbytes(const struct ggml_tensor * tensor);
void * ggml_get_data(const struct ggml_tensor * tensor);
void ggml_set_input(struct ggml_tensor * tensor);
void ggml_set_output(struct ggml_tensor * tensor);
struct ggml_tensor * ggml_new_tensor_2d(struct ggml_context * ctx, enum ggml_type type, int64_t ne0,
    int64_t ne1);
struct ggml_cgraph * ggml_new_graph_custom(struct ggml_context * ctx, size_t size, bool grads);
void ggml_build_forward_expand(struct ggml_cgraph * cgraph, struct ggml_tensor * tensor);
int ggml_graph_n_nodes(struct ggml_cgraph * cgraph);
struct ggml_tensor * ggml_graph_node(struct ggml_cgraph * cgraph, int i);
const char * ggml_op_desc(const struct ggml_tensor * t);
struct ggml_tensor * ggml_add(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b);
struct ggml_tensor * ggml_mul(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b);
struct ggml_tensor * ggml_scale(struct ggml_context * ctx, struct ggml_tensor * a, float s);
struct ggml_tensor * ggml_scale_bias(struct ggml_context * ctx, struct ggml_tensor * a, float s,
    float b);
struct ggml_tensor * ggml_mul_mat(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b);
struct ggml_tensor * ggml_out_prod(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b);
struct ggml_tensor * ggml_get_rows(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b);
struct ggml_tensor * ggml_rms_norm(struct ggml_context * ctx, struct ggml_tensor * a, float eps);
struct ggml_tensor * ggml_rms_norm_back(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b, float eps);
struct ggml_tensor * ggml_rope_ext(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b, struct ggml_tensor * c, int n_dims, int mode, int n_ctx_orig,
    float freq_base, float freq_scale, float ext_factor, float attn_factor, float beta_fast,
    float beta_slow);
struct ggml_tensor * ggml_rope_ext_back(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b, struct ggml_tensor * c, int n_dims, int mode, int n_ctx_orig,
    float freq_base, float freq_scale, float ext_factor, float attn_factor, float beta_fast,
    float beta_slow);
struct ggml_tensor * ggml_soft_max_ext(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * mask, float scale, float max_bias);
struct ggml_tensor * ggml_soft_max_ext_back(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b, float scale, float max_bias);
struct ggml_tensor * ggml_silu(struct ggml_context * ctx, struct ggml_tensor * a);
struct ggml_tensor * ggml_silu_back(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b);
struct ggml_tensor * ggml_tanh(struct ggml_context * ctx, struct ggml_tensor * a);
struct ggml_tensor * ggml_cont(struct ggml_context * ctx, struct ggml_tensor * a);
struct ggml_tensor * ggml_reshape_4d(struct ggml_context * ctx, struct ggml_tensor * a, int64_t ne0,
    int64_t ne1, int64_t ne2, int64_t ne3);
struct ggml_tensor * ggml_permute(struct ggml_context * ctx, struct ggml_tensor * a, int axis0,
    int axis1, int axis2, int axis3);
struct ggml_tensor * ggml_transpose(struct ggml_context * ctx, struct ggml_tensor * a);
struct ggml_tensor * ggml_concat(struct ggml_context * ctx, struct ggml_tensor * a,
    struct ggml_tensor * b, int dim);
struct ggml_tensor * ggml_view_2d(struct ggml_context * ctx, struct ggml_tensor * a, int64_t ne0,
    int64_t ne1, size_t nb1, size_t offset);
size_t ggml_quantize_chunk(enum ggml_type type, const float * src, void * dst, int64_t start,
    int64_t nrows, int64_t n_per_row, const float * imatrix);
ggml_gallocr_t ggml_gallocr_new(ggml_backend_buffer_type_t buft);
void ggml_gallocr_free(ggml_gallocr_t galloc);
bool ggml_gallocr_alloc_graph(ggml_gallocr_t galloc, struct ggml_cgraph * graph);
size_t ggml_gallocr_get_buffer_size(ggml_gallocr_t galloc, int buffer_id);
struct ggml_backend_buffer * ggml_backend_alloc_ctx_tensors(struct ggml_context * ctx,
    ggml_backend_t backend);
void ggml_backend_buffer_free(ggml_backend_buffer_t buffer);
size_t ggml_backend_buffer_get_size(ggml_backend_buffer_t buffer);
void ggml_backend_free(ggml_backend_t backend);
ggml_backend_buffer_type_t ggml_backend_get_default_buffer_type(ggml_backend_t backend);
void ggml_backend_tensor_set(struct ggml_tensor * tensor, const void * data, size_t offset,
    size_t size);
void ggml_backend_tensor_get(const struct ggml_tensor * tensor, void * data, size_t offset,
    size_t size);
enum ggml_status ggml_backend_graph_compute(ggml_backend_t backend, struct ggml_cgraph * cgraph);
size_t ggml_backend_dev_count(void);
ggml_backend_dev_t ggml_backend_dev_get(size_t index);
const char * ggml_backend_dev_name(ggml_backend_dev_t device);
const char * ggml_backend_dev_description(ggml_backend_dev_t device);
void ggml_backend_dev_memory(ggml_backend_dev_t device, size_t * free, size_t * total);
enum ggml_backend_dev_type ggml_backend_dev_type(ggml_backend_dev_t device);
ggml_backend_t ggml_backend_dev_init(ggml_backend_dev_t device, const char * params);
bool ggml_backend_dev_supports_op(ggml_backend_dev_t device, const struct ggml_tensor * op);
void ggml_backend_cpu_set_n_threads(ggml_backend_t backend_cpu, int n_threads);
void ggml_log_set(ggml_log_callback log_callback, void * user_data);
"""


class InitParams(ctypes.Structure):
    """`struct ggml_init_params` of ggml.h."""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


_PLAIN = {
    "void": None, "bool": c_bool, "int": c_int, "int64_t": c_int64, "size_t": c_size_t,
    "float": c_float, "struct ggml_init_params": InitParams,
    "ggml_log_callback": log.LogCallback,
}  # fmt: skip


def prototypes(text: str) -> dict[str, str]:
    """Return the C prototypes in a text by the function's name, with single spaces."""
    lines = " ".join(re.sub(r"//.*|/\*[\s\S]*?(?:\*/|\Z)", "", text).split())
    each = (re.sub(r" ?([*(),]) ?", r"\1", line).strip() for line in lines.split(";"))
    found = ((re.search(r"\b(\w+)\((?!\*)", line), line) for line in each)
    return {match[1]: line for match, line in found if match}


def _ctype(declared: str, named: bool, types: Mapping[str, Any]) -> Any:
    """Return the ctypes type of an argument with its name, or of a result."""
    if "*" in declared:
        return c_char_p if re.match(r"const char\*", declared) else c_void_p
    words = declared.split()[: -1 if named and declared != "void" else None]
    if words[0] == "enum":
        return c_int
    return c_void_p if words[0].endswith("_t") and words[0] not in types else types[" ".join(words)]


def declared(
    handles: Sequence[ctypes.CDLL], text: str, types: Mapping[str, Any], version: str = ""
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield name and function of each C prototype in a text, with the types that it states.

    Args:
        handles: the libraries in which the functions are looked for.
        text: the prototypes.
        types: the ctypes type of each C type that is no pointer and no handle.
        version: of llama-cpp-python, for the error.

    Raises:
        LlamaError: a function is missing.
    """
    for name, line in prototypes(text).items():
        function = next((f for lib in handles if (f := getattr(lib, name, None))), None)
        if function is None:
            message = f"llama-cpp-python{version} has no C function `{name}`"
            raise LlamaError(message, library.INSTALL_HINT)
        result, _, arguments = line.partition(f"{name}(")
        listed = [part for part in arguments.rstrip(")").split(",") if part != "void"]
        function.restype = _ctype(result, named=False, types=types)
        function.argtypes = [_ctype(part, named=True, types=types) for part in listed]
        yield name, function


class Functions:
    """The functions of `PROTOTYPES` as attributes, without the prefix `ggml_`.

    Raises:
        LlamaError: a function or a library is missing.
    """

    def __init__(self, handles: list[ctypes.CDLL]) -> None:
        for name, function in declared(handles, PROTOTYPES, _PLAIN):
            setattr(self, name.removeprefix("ggml_"), function)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)  # tells mypy that the attributes above exist


@functools.cache
def functions() -> Functions:
    """Return ggml's functions; they are looked up once.

    One handle finds those of its libraries too, except on Windows. A second one, by another file
    name, could be a second copy with a state of its own.
    """
    handles = (library.load(name) for name in ("ggml", "ggml-base", "ggml-cpu"))
    found = Functions([handle for handle in handles if handle is not None])
    log.install(found.log_set)
    return found
