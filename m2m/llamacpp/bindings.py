"""llama.cpp's C functions, declared by their C prototypes (llama.h, ggml.h).

The struct layouts come from the llama-cpp-python package, because they change with the library in
it. The functions are declared here, on m2m's own handle of the library, and only those in use. A
test compares the prototypes with the headers that the package installs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_bool, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any

# The first is for OpenMP (see m2m.kernels.library), before it is loaded. The second prevents a
# failed GGML_ASSERT from starting a debugger.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp
from llama_cpp import llama_cpp as package

from m2m.errors import LlamaError
from m2m.ggml import log
from m2m.ggml.bindings import declared
from m2m.kernels.library import INSTALL_HINT

PACKAGE_VERSION: str = llama_cpp.__version__

ModelParams = package.llama_model_params
ContextParams = package.llama_context_params
QuantizeParams = package.llama_model_quantize_params

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ, llama-cparams.h: a higher number aborts the process

# enum llama_flash_attn_type and enum llama_load_mode, llama.h
FLASH_ATTN_DISABLED = 0
LOAD_MODE_MMAP = 1
# enum ggml_type, ggml.h (the others are in quantize.py)
TYPE_F32, TYPE_F16 = 0, 1


class Batch(ctypes.Structure):
    """`struct llama_batch` of llama.h; its arrays are addresses of memory that NumPy owns."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", c_void_p),  # llama_token *
        ("embd", c_void_p),  # float *
        ("pos", c_void_p),  # llama_pos *
        ("n_seq_id", c_void_p),  # int32_t *
        ("seq_id", c_void_p),  # llama_seq_id **
        ("logits", c_void_p),  # int8_t *
    ]


_TYPES: dict[str, Any] = {
    "void": None, "bool": c_bool, "int32_t": c_int32, "int64_t": c_int64, "uint32_t": c_uint32,
    "size_t": c_size_t, "llama_token": c_int32, "llama_pos": c_int32, "llama_seq_id": c_int32,
    "struct llama_model_params": ModelParams, "struct llama_context_params": ContextParams,
    "struct llama_model_quantize_params": QuantizeParams, "struct llama_batch": Batch,
    "ggml_log_callback": log.LogCallback,
}  # fmt: skip

# llama_memory_seq_cp: a partial copy between separate streams (not kv_unified) aborts the process.
# llama_adapter_lora_init: the adapter is freed with the model.
PROTOTYPES = """
void llama_backend_init(void);
void llama_log_set(ggml_log_callback log_callback, void * user_data);
const char * llama_print_system_info(void);
bool llama_supports_gpu_offload(void);
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
struct llama_model_quantize_params llama_model_quantize_default_params(void);
struct llama_model * llama_model_load_from_file(const char * path_model,
    struct llama_model_params params);
void llama_model_free(struct llama_model * model);
struct llama_context * llama_init_from_model(struct llama_model * model,
    struct llama_context_params params);
void llama_free(struct llama_context * ctx);
int32_t llama_model_n_ctx_train(const struct llama_model * model);
int32_t llama_model_desc(const struct llama_model * model, char * buf, size_t buf_size);
bool llama_model_has_encoder(const struct llama_model * model);
bool llama_model_is_recurrent(const struct llama_model * model);
bool llama_model_is_hybrid(const struct llama_model * model);
struct llama_adapter_lora * llama_adapter_lora_init(struct llama_model * model,
    const char * path_lora);
int32_t llama_set_adapters_lora(struct llama_context * ctx, struct llama_adapter_lora ** adapters,
    size_t n_adapters, float * scales);
uint32_t llama_n_ctx(const struct llama_context * ctx);
uint32_t llama_n_batch(const struct llama_context * ctx);
uint32_t llama_n_seq_max(const struct llama_context * ctx);
llama_memory_t llama_get_memory(const struct llama_context * ctx);
void llama_memory_clear(llama_memory_t mem, bool data);
bool llama_memory_seq_rm(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1);
void llama_memory_seq_cp(llama_memory_t mem, llama_seq_id seq_id_src, llama_seq_id seq_id_dst,
    llama_pos p0, llama_pos p1);
int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch);
float * llama_get_logits(struct llama_context * ctx);
const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab);
bool llama_vocab_is_eog(const struct llama_vocab * vocab, llama_token token);
int32_t llama_tokenize(const struct llama_vocab * vocab, const char * text, int32_t text_len,
    llama_token * tokens, int32_t n_tokens_max, bool add_special, bool parse_special);
int32_t llama_token_to_piece(const struct llama_vocab * vocab, llama_token token, char * buf,
    int32_t length, int32_t lstrip, bool special);
uint32_t llama_model_quantize(const char * fname_inp, const char * fname_out,
    const llama_model_quantize_params * params);
size_t ggml_quantize_chunk(enum ggml_type type, const float * src, void * dst, int64_t start,
    int64_t nrows, int64_t n_per_row, const float * imatrix);
void ggml_quantize_init(enum ggml_type type);
bool ggml_validate_row_data(enum ggml_type type, const void * data, size_t nbytes);
const char * ggml_commit(void);
"""


def _open(base: str) -> ctypes.CDLL:
    """Return a new handle of a library that the package has already loaded."""
    from llama_cpp._ctypes_extensions import load_shared_library

    handle: ctypes.CDLL = load_shared_library(base, package._base_path)
    return handle


_LIBRARIES = [_open("llama"), _open("ggml-base")]
_FUNCTIONS = dict(declared(_LIBRARIES, PROTOTYPES, _TYPES, f" {PACKAGE_VERSION}"))


def __getattr__(name: str) -> Callable[..., Any]:
    """Return a function of `PROTOTYPES`, so that `bindings.llama_decode` is one."""
    if name not in _FUNCTIONS:
        raise AttributeError(name)
    return _FUNCTIONS[name]


_NO_DEVICES = c_void_p()  # an empty list of ggml_backend_dev_t, which ends with NULL


def devices_for(layers: int) -> int | None:
    """Return `devices` of llama_model_params: none for 0 layers, or else llama.cpp's own choice.

    By default a GPU computes large batches and holds the KV cache even without a layer on it.
    """
    return None if layers else ctypes.addressof(_NO_DEVICES)


def _check_structs() -> None:
    """Raise if the package's struct layouts do not fit its library; runs before any C call.

    C sets the default values. Through a wrong layout m2m could not read all of them correctly.
    """
    model, context, quantize = (
        _FUNCTIONS[f"llama_{kind}_default_params"]()
        for kind in ("model", "context", "model_quantize")
    )
    checks = (
        ctypes.sizeof(Batch) == ctypes.sizeof(package.llama_batch),
        model.load_mode in (-1, LOAD_MODE_MMAP) and model.use_extra_bufts and not model.no_alloc,
        context.n_ctx == 512 and context.flash_attn_type == -1 and context.type_k == 1,
        context.offload_kqv and not context.kv_unified and context.n_samplers == 0,
        quantize.quantize_output_tensor and not quantize.pure and not quantize.imatrix,
    )
    if not all(checks):
        message = f"llama-cpp-python {PACKAGE_VERSION} does not fit the llama.cpp library it loads"
        raise LlamaError(message, INSTALL_HINT)


log.install(_FUNCTIONS["llama_log_set"])
_check_structs()
_FUNCTIONS["llama_backend_init"]()
