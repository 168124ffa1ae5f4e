// The decoder's inner face: one implementation per instruction set, chosen in decode.cpp.
#pragma once

#include <memory>
#include <string_view>

#include "decode_lanes.hpp"
#include "omnistream/decode.hpp"

namespace omnistream {

class DecodeKernel {
public:
    virtual ~DecodeKernel() = default;
    virtual Status decode_lines(std::string_view block, Origin* origin, Decoded* out) = 0;
    virtual Status decode_messages(Origin* origin, Decoded* out) = 0;
};

using Dictionaries = std::vector<std::shared_ptr<Dictionary>>;
using MakeKernel = std::unique_ptr<DecodeKernel> (*)(const DecodePlan&, const Dictionaries&);

namespace portable {
std::unique_ptr<DecodeKernel> make_kernel(const DecodePlan& plan, const Dictionaries& dictionaries);
}
namespace avx2 {
std::unique_ptr<DecodeKernel> make_kernel(const DecodePlan& plan, const Dictionaries& dictionaries);
}
namespace avx512 {
std::unique_ptr<DecodeKernel> make_kernel(const DecodePlan& plan, const Dictionaries& dictionaries);
}
namespace neon {
std::unique_ptr<DecodeKernel> make_kernel(const DecodePlan& plan, const Dictionaries& dictionaries);
}

}  // namespace omnistream
