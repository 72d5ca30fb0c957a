"""llama.cpp's C functions, each declared below its C prototype (llama.h, ggml.h).

The struct layouts come from the llama-cpp-python package, because they change with the library in
it. The functions are declared here, on m2m's own handle of the library, and only those in use.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any

# The first is for OpenMP (see m2m.kernels.library), before it is loaded. The second prevents a
# failed GGML_ASSERT from starting a debugger.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp
from llama_cpp import llama_cpp as package

from m2m.errors import LlamaError
from m2m.kernels.library import INSTALL_HINT
from m2m.llamacpp import log

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


def _open(base: str) -> ctypes.CDLL:
    """Return a new handle of a library that the package has already loaded."""
    from llama_cpp._ctypes_extensions import load_shared_library

    handle: ctypes.CDLL = load_shared_library(base, package._base_path)
    return handle


def _declare(lib: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    try:
        function = getattr(lib, name)
    except AttributeError:
        message = f"llama-cpp-python {PACKAGE_VERSION} has no C function `{name}`"
        raise LlamaError(message, INSTALL_HINT) from None
    function.restype, function.argtypes = result, list(arguments)
    return function  # type: ignore[no-any-return]


_llama = _open("llama")
_ggml = _open("ggml-base")

# void llama_backend_init(void);
llama_backend_init = _declare(_llama, "llama_backend_init", None)
# void llama_log_set(ggml_log_callback log_callback, void * user_data);
llama_log_set = _declare(_llama, "llama_log_set", None, log.LogCallback, c_void_p)
# const char * llama_print_system_info(void);
llama_print_system_info = _declare(_llama, "llama_print_system_info", c_char_p)
# bool llama_supports_gpu_offload(void);
llama_supports_gpu_offload = _declare(_llama, "llama_supports_gpu_offload", c_bool)

# struct llama_model_params llama_model_default_params(void);
llama_model_default_params = _declare(_llama, "llama_model_default_params", ModelParams)
# struct llama_context_params llama_context_default_params(void);
llama_context_default_params = _declare(_llama, "llama_context_default_params", ContextParams)
# struct llama_model_quantize_params llama_model_quantize_default_params(void);
llama_model_quantize_default_params = _declare(
    _llama, "llama_model_quantize_default_params", QuantizeParams
)

# struct llama_model * llama_model_load_from_file(const char * path, struct llama_model_params p);
llama_model_load_from_file = _declare(
    _llama, "llama_model_load_from_file", c_void_p, c_char_p, ModelParams
)
# void llama_model_free(struct llama_model * model);
llama_model_free = _declare(_llama, "llama_model_free", None, c_void_p)
# struct llama_context * llama_init_from_model(struct llama_model *, struct llama_context_params);
llama_init_from_model = _declare(_llama, "llama_init_from_model", c_void_p, c_void_p, ContextParams)
# void llama_free(struct llama_context * ctx);
llama_free = _declare(_llama, "llama_free", None, c_void_p)

# int32_t llama_model_n_ctx_train(const struct llama_model * model);
llama_model_n_ctx_train = _declare(_llama, "llama_model_n_ctx_train", c_int32, c_void_p)
# int32_t llama_model_desc(const struct llama_model * model, char * buf, size_t buf_size);
llama_model_desc = _declare(_llama, "llama_model_desc", c_int32, c_void_p, c_char_p, c_size_t)
# bool llama_model_has_encoder(const struct llama_model * model);
llama_model_has_encoder = _declare(_llama, "llama_model_has_encoder", c_bool, c_void_p)
# bool llama_model_is_recurrent(const struct llama_model * model);
llama_model_is_recurrent = _declare(_llama, "llama_model_is_recurrent", c_bool, c_void_p)
# bool llama_model_is_hybrid(const struct llama_model * model);
llama_model_is_hybrid = _declare(_llama, "llama_model_is_hybrid", c_bool, c_void_p)

# struct llama_adapter_lora * llama_adapter_lora_init(struct llama_model * model,
#                                                     const char * path_lora);
# The adapter is freed with the model.
llama_adapter_lora_init = _declare(_llama, "llama_adapter_lora_init", c_void_p, c_void_p, c_char_p)
# int32_t llama_set_adapters_lora(struct llama_context * ctx, struct llama_adapter_lora ** adapters,
#                                 size_t n_adapters, float * scales);
llama_set_adapters_lora = _declare(
    _llama,
    "llama_set_adapters_lora",
    c_int32,
    *(c_void_p, ctypes.POINTER(c_void_p), c_size_t, ctypes.POINTER(c_float)),
)

# uint32_t llama_n_ctx(const struct llama_context * ctx);
llama_n_ctx = _declare(_llama, "llama_n_ctx", c_uint32, c_void_p)
# uint32_t llama_n_batch(const struct llama_context * ctx);
llama_n_batch = _declare(_llama, "llama_n_batch", c_uint32, c_void_p)
# uint32_t llama_n_seq_max(const struct llama_context * ctx);
llama_n_seq_max = _declare(_llama, "llama_n_seq_max", c_uint32, c_void_p)

# llama_memory_t llama_get_memory(const struct llama_context * ctx);
llama_get_memory = _declare(_llama, "llama_get_memory", c_void_p, c_void_p)
# void llama_memory_clear(llama_memory_t mem, bool data);
llama_memory_clear = _declare(_llama, "llama_memory_clear", None, c_void_p, c_bool)
# bool llama_memory_seq_rm(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1);
llama_memory_seq_rm = _declare(
    _llama, "llama_memory_seq_rm", c_bool, c_void_p, c_int32, c_int32, c_int32
)
# void llama_memory_seq_cp(llama_memory_t mem, llama_seq_id src, llama_seq_id dst,
#                          llama_pos p0, llama_pos p1);
# Only with kv_unified: a partial copy between separate streams aborts the process.
llama_memory_seq_cp = _declare(
    _llama, "llama_memory_seq_cp", None, c_void_p, c_int32, c_int32, c_int32, c_int32
)
# int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch);
llama_decode = _declare(_llama, "llama_decode", c_int32, c_void_p, Batch)
# float * llama_get_logits(struct llama_context * ctx);
llama_get_logits = _declare(_llama, "llama_get_logits", c_void_p, c_void_p)

# const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
llama_model_get_vocab = _declare(_llama, "llama_model_get_vocab", c_void_p, c_void_p)
# int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab);
llama_vocab_n_tokens = _declare(_llama, "llama_vocab_n_tokens", c_int32, c_void_p)
# bool llama_vocab_is_eog(const struct llama_vocab * vocab, llama_token token);
llama_vocab_is_eog = _declare(_llama, "llama_vocab_is_eog", c_bool, c_void_p, c_int32)
# int32_t llama_tokenize(const struct llama_vocab * vocab, const char * text, int32_t text_len,
#                        llama_token * tokens, int32_t n_max, bool add_special, bool parse_special);
llama_tokenize = _declare(
    _llama,
    "llama_tokenize",
    c_int32,
    *(c_void_p, c_char_p, c_int32, c_void_p, c_int32, c_bool, c_bool),
)
# int32_t llama_token_to_piece(const struct llama_vocab * vocab, llama_token token, char * buf,
#                              int32_t length, int32_t lstrip, bool special);
llama_token_to_piece = _declare(
    _llama,
    "llama_token_to_piece",
    c_int32,
    *(c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool),
)

# uint32_t llama_model_quantize(const char * fname_inp, const char * fname_out,
#                               const llama_model_quantize_params * params);
llama_model_quantize = _declare(
    _llama, "llama_model_quantize", c_uint32, c_char_p, c_char_p, ctypes.POINTER(QuantizeParams)
)

# size_t ggml_quantize_chunk(enum ggml_type type, const float * src, void * dst, int64_t start,
#                            int64_t nrows, int64_t n_per_row, const float * imatrix);
ggml_quantize_chunk = _declare(
    _ggml,
    "ggml_quantize_chunk",
    c_size_t,
    *(c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, ctypes.POINTER(c_float)),
)
# void ggml_quantize_init(enum ggml_type type);
ggml_quantize_init = _declare(_ggml, "ggml_quantize_init", None, c_int)
# bool ggml_validate_row_data(enum ggml_type type, const void * data, size_t nbytes);
ggml_validate_row_data = _declare(
    _ggml, "ggml_validate_row_data", c_bool, c_int, c_void_p, c_size_t
)
# const char * ggml_commit(void);
ggml_commit = _declare(_ggml, "ggml_commit", c_char_p)


def _check_structs() -> None:
    """Raise if the package's struct layouts do not fit its library; runs before any C call.

    C sets the default values. Through a wrong layout m2m could not read all of them correctly.
    """
    model, context = llama_model_default_params(), llama_context_default_params()
    quantize = llama_model_quantize_default_params()
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


log.install(llama_log_set)
_check_structs()
llama_backend_init()
