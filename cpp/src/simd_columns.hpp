// Places of values, sixteen units at a time: quotes by unit become quotes by column, and from where strings
// begin and end follow their offsets. In plain C++; simd_columns_avx512.hpp is the same with AVX-512.
#pragma once

namespace omnistream::OMNI_ISA {

struct SixteenColumns {
    static constexpr std::size_t kCount = 16;

    // Sixteen rows of sixteen numbers, which begin at from[rows[i]], to columns of sixteen, each `stride`
    // behind the one before.
    static void transpose(const std::uint32_t* from, const std::uint32_t* rows, std::uint32_t* to,
                          std::size_t stride) {
        for (std::size_t column = 0; column < kCount; ++column)
            for (std::size_t row = 0; row < kCount; ++row)
                to[column * stride + row] = from[rows[row] + column];
    }

    // The ends of strings behind the one that ends at offsets[0], sixteen at a time: each as long as its stop
    // is behind its beginning, plus `more`; nothing where that is negative. Returns bits: whether one of them
    // is longer than 8, than 16, than 32 bytes.
    static unsigned add_up(const std::uint32_t* begins, const std::uint32_t* stops, std::int32_t more,
                           std::size_t count, std::int32_t* offsets) {
        std::int32_t longest = 0;
        auto end = static_cast<std::uint32_t>(offsets[0]);
        for (std::size_t i = 0; i < count; ++i) {
            // Unsigned, as there may be anything where a text differs.
            const auto size =
                static_cast<std::int32_t>(stops[i] - begins[i] + static_cast<std::uint32_t>(more));
            longest = std::max(longest, size);
            end += static_cast<std::uint32_t>(std::max(size, 0));
            offsets[i + 1] = static_cast<std::int32_t>(end);
        }
        return unsigned{longest > 8} | unsigned{longest > 16} << 1 | unsigned{longest > 32} << 2;
    }
};

}  // namespace omnistream::OMNI_ISA
