// The values of some columns of a row as bytes, to be told apart and remembered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// As many keys as one call reads: their lookups are in flight at once.
inline constexpr std::size_t kKeysAtOnce = 32;

// `what` is named in errors: "the key of duplicates".
Status find_key_columns(const std::vector<std::string>& names, const std::string& what, const Batch& batch,
                        std::vector<const Column*>* columns);

// The keys of `count` rows, at most kKeysAtOnce. The key of one string or dictionary column is its bytes, and
// the byte 0xFF (which no UTF-8 has) for null; otherwise of every column its size (uint32, all ones for null)
// and its bytes: a string's own, or 8 of an integer's. Those that have to be put together live in `scratch`
// until the next call.
void read_keys(const std::vector<const Column*>& columns, const std::int32_t* rows, std::size_t count,
               Array<char>* scratch, std::string_view* keys);

}  // namespace omnistream
