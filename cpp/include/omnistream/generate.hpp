// Seeded apparel orders as NDJSON: what a shop's bus carries on a busy day, dirt included.
//
// The model
// - Orders are numbered along a daily curve: quiet nights, busy noons and evenings, and three bursts of eight
//   minutes (00:00, 10:00 and 20:00 UTC) at several times the rate.
// - Everything about order k is a hash of (seed, k): channel, store, customer, lines, prices, fate. A later
//   event computes the order again instead of remembering it, so memory does not grow with the stream.
// - A fate is one of: paid, shipped, delivered, and perhaps returned; or cancelled, half of them before
//   payment. Orders of the channel "store" are paid at once and never shipped. Delays from creation come in
//   classes: paid 15 s to 27 min, cancelled 40 min to 2.5 days, shipped 3 to 30 h, delivered 1 to 4 days,
//   returned 5 to 15 days. One cursor per class walks the orders in time, and the stream is the merge of the
//   cursors.
// - The stream begins in a steady state: what happens to orders made before start_ms is in it, too.
// - An event is sent at its moment and stamped with an earlier event time: by up to half a second, and by up
//   to max_disorder_ms for every tenth. So no event time is more than max_disorder_ms below the largest one
//   before it, repeats included. Within an order event times never go back.
// - Popularity: the style-colours (ST01234-BLK) follow a Zipf law, their sizes a size curve.
// - A style has one list price (charm endings) and a cost of 25 to 60 % of it. Discounts are steps of 5 %,
//   deeper in bursts, for promoted styles, and by channel. `below_cost` is drawn for each order line.
// - A duplicate is the same bytes again, up to a minute later (at once when max_disorder_ms leaves no room).
//   Orders with a line below cost are not repeated, so that each count stands for itself.
// - A broken message takes the place of the event that it was. It has no line below cost and is not repeated.
//
// All of it is integer arithmetic on generators of our own, so a spec gives the same bytes on every machine
// and for any chunking.
#pragma once

#include <cstdint>
#include <iterator>
#include <memory>

#include "omnistream/buffer.hpp"

namespace omnistream {

// Bounds: styles 1..99'999, stores and customers at least 1, event times in the years 1971..9998, rates in
// [0, 1]. omnistream/generate.py checks them.
struct GenerateSpec {
    std::uint64_t seed = 20261111;
    std::int64_t events = 1'000'000;            // messages written, duplicates and broken ones included
    bool nested = false;                        // lines[] per order, else one line per event
    std::int64_t start_ms = 1'794'355'200'000;  // 2026-11-11T00:00:00Z
    std::int64_t span_ms = 86'400'000;  // the last event falls near its end: rates are shares, not quotas
    std::int64_t max_disorder_ms = 30'000;
    std::int32_t styles = 5'000;  // each in 2 to 5 colours and 5 to 8 sizes
    std::int32_t stores = 2'000;
    std::int32_t customers = 1'000'000;
    double zipf_exponent = 1.05;
    double dirt = 0.0;          // share of broken messages, of all kinds alike
    double below_cost = 0.005;  // share of lines priced below cost
    double duplicates = 0.0;    // share of events sent twice
    double return_rate = 0.05;  // share of the orders not cancelled that are returned days later
    double cancel_rate = 0.05;  // share of orders cancelled
};

// In the order of a life.
inline constexpr const char* kEventTypes[] = {"created",   "paid",      "shipped",
                                              "delivered", "cancelled", "returned"};
inline constexpr int kEventTypeCount = 6;

// How a message is broken, and what the built-in order schemas make of it: a decode reason; "clean", when it
// decodes and only a rule can find it; or "decoded", when it is odd but legal.
struct DirtKind {
    const char* name;
    const char* outcome;
};
inline constexpr DirtKind kDirtKinds[] = {
    {"truncated", "truncated_json"},         // the tail is lost
    {"glued", "trailing_data"},              // two messages on one line
    {"nul_byte", "invalid_json"},            // a NUL inside a string
    {"invalid_utf8", "invalid_utf8"},        // a byte 0xFF inside a string
    {"wrong_type", "wrong_type"},            // "unit_price":"N/A"
    {"missing_field", "missing_field"},      // no sku
    {"null_field", "null_field"},            // "sku":null
    {"bad_timestamp", "invalid_timestamp"},  // month 13
    {"out_of_range", "out_of_range"},        // "unit_price":1e30
    {"inexact_number", "inexact_number"},    // "qty":1.5
    {"not_an_object", "not_an_object"},      // a heartbeat
    {"deep_nesting", "nesting_too_deep"},    // 200 brackets
    {"duplicate_keys", "decoded"},           // "qty" twice; the last counts
    {"negative_quantity", "clean"},          // "qty":-1
    {"absurd_price", "clean"},               // "unit_price":12345678.90
    {"unknown_event_type", "clean"},         // "refund_pending"
    {"wrong_clock", "clean"},                // 1970, as a till whose battery died says
};
inline constexpr int kDirtKindCount = static_cast<int>(std::size(kDirtKinds));

struct GenerateCounts {
    std::int64_t events = 0;            // messages written = sum of by_type + sum of broken
    std::int64_t duplicates = 0;        // messages that repeat an earlier one; counted in by_type, too
    std::int64_t lines = 0;             // order lines in messages that are not broken
    std::int64_t duplicate_lines = 0;   // of them, in duplicates
    std::int64_t below_cost_lines = 0;  // of them, priced below cost
    std::int64_t by_type[kEventTypeCount] = {};
    std::int64_t broken[kDirtKindCount] = {};
};

class Generator {
public:
    explicit Generator(GenerateSpec spec);
    ~Generator();
    // Replaces what `out` holds by whole lines, until `bytes` is reached or the events run out; false when
    // there were none left.
    bool next(std::size_t bytes, Array<char>* out);
    [[nodiscard]] std::int64_t events() const { return counts().events; }  // written so far
    [[nodiscard]] const GenerateCounts& counts() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace omnistream
