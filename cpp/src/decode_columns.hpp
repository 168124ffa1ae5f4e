// The index of quotes by column: of all units of a run (messages, or elements) their first quotes, their
// second ones and so on. A field then finds all its places side by side, and what follows from them is worked
// out many at a time.
//
// Included by decode_<isa>.cpp after its simd_<isa>.hpp.
#pragma once

namespace omnistream::OMNI_ISA {

class QuoteColumns {
public:
    // Unit i begins at quotes[units[i]]; ascending.
    void begin(const std::uint32_t* quotes, const std::uint32_t* units, std::size_t count,
               std::uint32_t quotes_of_unit) {
        quotes_ = quotes;
        units_ = units;
        count_ = count;
        before_ = count != 0 && units[0] != 0;
        stride_ = (count + kTile - 1) / kTile * kTile + kTile;
        ready_.assign((quotes_of_unit + 2 * kTile) / kTile, false);
        places_.reserve(ready_.size() * kTile * stride_);
    }

    // quotes[units[i] + quote], by unit; -1 is the quote in front of a unit. Up to kTile - 1 places more can
    // be read.
    const std::uint32_t* column(std::uint32_t quote) {
        const std::uint32_t at = quote + before_;
        if (at >= ready_.size() * kTile)
            return quotes_;  // in front of all, or behind what a unit may ask for
        const std::size_t tile = at / kTile;
        if (!ready_[tile]) turn(tile);
        return places_.data() + at * stride_;
    }

private:
    static constexpr std::size_t kTile = Simd::Columns::kCount;

    void turn(std::size_t tile) {
        const std::uint32_t* const quotes = quotes_ + tile * kTile - before_;
        std::uint32_t* const to = places_.data() + tile * kTile * stride_;
        std::size_t i = 0;
        for (; i + kTile <= count_; i += kTile) Simd::Columns::transpose(quotes, units_ + i, to + i, stride_);
        if (i != count_) {
            std::uint32_t units[kTile];
            for (std::size_t j = 0; j < kTile; ++j) units[j] = units_[std::min(i + j, count_ - 1)];
            Simd::Columns::transpose(quotes, units, to + i, stride_);
        }
        ready_[tile] = true;
    }

    const std::uint32_t* quotes_ = nullptr;
    const std::uint32_t* units_ = nullptr;
    std::size_t count_ = 0;
    std::size_t stride_ = 0;
    std::uint32_t before_ = 0;  // quotes in front of a unit that it may ask for
    Array<std::uint32_t> places_;
    std::vector<bool> ready_;
};

}  // namespace omnistream::OMNI_ISA
