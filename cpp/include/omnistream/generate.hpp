// Seeded apparel orders as NDJSON: what a shop's bus carries on a busy day, dirt included.
#pragma once

#include <cstdint>
#include <memory>

#include "omnistream/buffer.hpp"

namespace omnistream {

struct GenerateSpec {
    std::uint64_t seed = 20261111;
    std::int64_t events = 1'000'000;
    bool nested = false;                        // lines[] per order, else one line per event
    std::int64_t start_ms = 1'794'355'200'000;  // 2026-11-11T00:00:00Z
    std::int64_t span_ms = 86'400'000;
    std::int64_t max_disorder_ms = 30'000;
    std::int32_t styles = 5'000;  // each in colours and sizes
    std::int32_t stores = 2'000;
    std::int32_t customers = 1'000'000;
    double zipf_exponent = 1.05;
    double dirt = 0.0;          // share of broken messages, of all kinds
    double below_cost = 0.005;  // share of lines priced below cost
    double duplicates = 0.0;    // share of events sent twice
    double return_rate = 0.05;  // share of paid orders returned days later
    double cancel_rate = 0.05;
};

class Generator {
public:
    explicit Generator(GenerateSpec spec);
    ~Generator();
    // Whole lines, at least until `bytes` is reached or the events run out; false when there were none left.
    bool next(std::size_t bytes, Array<char>* out);
    [[nodiscard]] std::int64_t events() const;  // written so far

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace omnistream
