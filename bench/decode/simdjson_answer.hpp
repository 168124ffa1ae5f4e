// Answers as checksums that do not depend on how a program holds its columns: what answers.py does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace peer {

class Crc32 {
public:
    void add(const void* data, std::size_t size) {
        static const Table kTable;
        const auto* byte = static_cast<const unsigned char*>(data);
        for (std::size_t i = 0; i < size; ++i) state_ = kTable.at[(state_ ^ byte[i]) & 255] ^ (state_ >> 8);
    }
    std::uint32_t value() const { return ~state_; }

private:
    struct Table {
        std::uint32_t at[256];
        Table() {
            for (std::uint32_t i = 0; i < 256; ++i) {
                at[i] = i;
                for (int bit = 0; bit < 8; ++bit)
                    at[i] = (at[i] >> 1) ^ ((at[i] & 1) != 0 ? 0xEDB88320u : 0u);
            }
        }
    };
    std::uint32_t state_ = 0xFFFFFFFF;
};

struct Digest {
    std::int64_t nulls = 0;
    Crc32 values;   // int64 lanes (decimals times 10^4, ms since 1970), or the bytes of strings
    Crc32 lengths;  // of strings, as int32
    bool strings = false;

    void add_number(std::int64_t value) { values.add(&value, sizeof value); }
    void add_string(std::string_view text) {
        const auto size = static_cast<std::int32_t>(text.size());
        strings = true;
        lengths.add(&size, sizeof size);
        values.add(text.data(), text.size());
    }
};

}  // namespace peer
