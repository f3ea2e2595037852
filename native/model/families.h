// The families of checkpoints this engine knows, one reader each. A reader turns a parsed config.json (and what lies
// beside it in the folder) into a ModelConfig. docs/adding-a-backbone.md tells how to write one.
#pragma once

#include <string>

#include "model/config.h"

namespace fire {

/// Qwen3-VL, dense (qwen3_vl.cpp).
ModelConfig read_qwen3_vl(const Json& config, const std::string& directory);
/// Qwen2.5-VL (qwen2_5_vl.cpp).
ModelConfig read_qwen2_5_vl(const Json& config, const std::string& directory);
/// HuatuoGPT-Vision and its kind in their own layout, LlavaQwen2ForCausalLM (llava.cpp).
ModelConfig read_llava_qwen2(const Json& config, const std::string& directory);
/// The same model in the layout of transformers, LlavaForConditionalGeneration (llava.cpp).
ModelConfig read_llava(const Json& config, const std::string& directory);

/// The parts of a decoder's config that all families spell alike. `json` is the object with hidden_size and so on.
TextConfig read_decoder(const Json& json);
/// Qwen2 as a decoder inside another model: biases on q, k and v, plain rotary positions, full attention.
TextConfig read_qwen2_decoder(const Json& json);
/// `rope_theta` beside or inside `rope_scaling` / `rope_parameters` (transformers 4 and 5); scaled positions are
/// refused. Returns the object with the rope settings, or nullptr when there is none.
const Json* read_rope(const Json& json, TextConfig& config);

/// As read_rope, with `mrope_section`, which must be there and fill half a head. Returns the object with the rope
/// settings.
const Json& read_mrope(const Json& json, Mrope kind, TextConfig& config);
/// The rotary settings of a vision tower, if it states them, must be those of `row_column_rotary`.
void require_axial_rope(const Json& vision);
/// tie_word_embeddings of the whole model, else of its decoder, else false.
bool read_tie(const Json& config, const Json& text);
/// True if either says so: older versions of transformers wrote the decoder's where newer ones read the model's.
bool read_either_tie(const Json& config, const Json& text);

/// preprocessor_config.json, or the image processor in the processor_config.json that transformers 5 writes.
Json read_preprocessor(const std::string& directory);

/// The ids that end an answer: of generation_config.json, else of `fallback`. Empty where neither names one.
std::vector<int64_t> read_eos(const std::string& directory, const Json& fallback);
/// A token id that must lie inside the vocabulary.
int64_t read_token(const Json& config, const char* key, const TextConfig& text);

}  // namespace fire
