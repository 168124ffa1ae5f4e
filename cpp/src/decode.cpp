// The decoder's outer face: picks the instruction set, keeps the compiled schema.
#include "omnistream/decode.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <mutex>

#include "decode_kernel.hpp"

namespace omnistream {
namespace {

struct Isa {
    const char* name;
    MakeKernel make;
};

// Those that this CPU can run, best first.
const std::vector<Isa>& usable_isas() {
    static const std::vector<Isa> isas = [] {
        std::vector<Isa> found;
#if defined(__x86_64__)
        __builtin_cpu_init();
        const bool avx2 =
            __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
        if (avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi2") &&
            __builtin_cpu_supports("gfni"))
            found.push_back({"avx512", avx512::make_kernel});
        if (avx2) found.push_back({"avx2", avx2::make_kernel});
#elif defined(__aarch64__)
        found.push_back({"neon", neon::make_kernel});
#endif
        found.push_back({"portable", portable::make_kernel});
        return found;
    }();
    return isas;
}

const Isa* find_isa(std::string_view name) {
    for (const Isa& isa : usable_isas())
        if (name == isa.name) return &isa;
    return nullptr;
}

const Isa*& chosen_isa() {
    static const Isa* chosen = [] {
        const char* forced = std::getenv("OMNISTREAM_FORCE_ISA");
        const Isa* isa = forced == nullptr ? nullptr : find_isa(forced);
        return isa == nullptr ? usable_isas().data() : isa;
    }();
    return chosen;
}

// Columns of a batch have 32-bit offsets.
constexpr std::size_t kLargestBlock = std::size_t{1} << 30;

// Blank lines are counted like any other, and the last line may lack its newline.
std::int64_t lines_of(std::string_view block, const KeptVector<Message>& messages) {
    std::int64_t lines = 0;
    if (!messages.empty()) {
        const Message& last = messages.back();
        lines = last.ordinal + 1;
        const std::size_t end =
            block.find('\n', static_cast<std::size_t>(last.data - block.data()) + last.size);
        block.remove_prefix(end == std::string_view::npos ? block.size() : end + 1);
    }
    lines += std::count(block.begin(), block.end(), '\n');
    return lines + static_cast<std::int64_t>(!block.empty() && block.back() != '\n');
}

}  // namespace

const std::vector<std::string>& decode_reasons() {
    static const std::vector<std::string> kReasons(std::begin(kDecodeReasons), std::end(kDecodeReasons));
    return kReasons;
}

std::string decode_isa() {
    return chosen_isa()->name;
}

std::vector<std::string> decode_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : usable_isas()) names.emplace_back(isa.name);
    return names;
}

Status force_decode_isa(const std::string& name) {
    const Isa* isa = find_isa(name);
    if (isa == nullptr) return {Code::argument, "this build or CPU has no instruction set '" + name + "'"};
    chosen_isa() = isa;
    return {};
}

class Decoder::Impl {
public:
    Impl(Schema schema, const Dictionaries& dictionaries)
        : plan_(std::move(schema)), kernel_(chosen_isa()->make(plan_, dictionaries)) {}

    DecodePlan plan_;
    std::unique_ptr<DecodeKernel> kernel_;
    std::mutex busy_;  // a decoder learns, so it serves one thread at a time
};

Decoder::Decoder(Schema schema, std::vector<std::shared_ptr<Dictionary>> dictionaries)
    : impl_(std::make_unique<Impl>(std::move(schema), dictionaries)) {}
Decoder::~Decoder() = default;

Status Decoder::decode_lines(std::string_view block, std::shared_ptr<Origin> origin, Decoded* out) {
    if (block.size() > kLargestBlock)
        return {Code::decode, "a block of more than 1 GiB; cut the input at line ends into smaller ones"};
    const std::lock_guard lock(impl_->busy_);
    const Status status = impl_->kernel_->decode_lines(block, origin.get(), out);
    origin->positions = lines_of(block, origin->messages);
    out->batch->origin = std::move(origin);
    return status;
}

Status Decoder::decode_messages(std::shared_ptr<Origin> origin, Decoded* out) {
    std::size_t size = 0;
    for (const Message& message : origin->messages) size += message.size;
    if (size > kLargestBlock) return {Code::decode, "more than 1 GiB of messages at once; push fewer"};
    const std::lock_guard lock(impl_->busy_);
    const Status status = impl_->kernel_->decode_messages(origin.get(), out);
    out->batch->origin = std::move(origin);
    return status;
}

}  // namespace omnistream
