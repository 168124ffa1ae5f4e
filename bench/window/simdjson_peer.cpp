// simdjson On-Demand: the fields that the query reads, in the order of the file, into a hash table per
// window.
//
//     simdjson_peer FILE.ndjson
//
// Less than omnistream does: no row is kept whole or checked, amounts are doubles, times are not validated,
// and the result stays in its tables, unsorted. Speaks the protocol of worker.py.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "simdjson.h"

namespace {

namespace ondemand = simdjson::ondemand;
constexpr std::int64_t kMinuteMs = 60'000;
constexpr std::int64_t kDisorderMinutes = 64;  // before the first event

int two_digits(const char* at) {
    return (at[0] - '0') * 10 + at[1] - '0';
}

// YYYY-MM-DDTHH:MM:SS.mmmZ to ms since 1970.
std::int64_t time_ms(std::string_view text) {
    const char* at = text.data();
    if (text.size() != 24) std::abort();
    int year = two_digits(at) * 100 + two_digits(at + 2);
    const int month = two_digits(at + 5);
    year -= month <= 2;
    const int era = year / 400;
    const int of_era = year - era * 400;
    const int day = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + two_digits(at + 8) - 1;
    const std::int64_t days = era * 146'097LL + of_era * 365 + of_era / 4 - of_era / 100 + day - 719'468;
    return ((days * 24 + two_digits(at + 11)) * 60 + two_digits(at + 14)) * kMinuteMs +
           two_digits(at + 17) * 1000 + (at[20] - '0') * 100 + two_digits(at + 21);
}

// Strings to numbers, first come first numbered.
struct Numbers {
    std::vector<std::int32_t> slots = std::vector<std::int32_t>(1024, -1);
    std::vector<std::string> texts;
    std::vector<std::uint64_t> hashes;

    static std::uint64_t hash_of(std::string_view text) {
        std::uint64_t hash = text.size() * 0x9E3779B97F4A7C15u;
        const char* at = text.data();
        std::size_t left = text.size();
        for (; left >= 8; at += 8, left -= 8) {
            std::uint64_t word;
            std::memcpy(&word, at, 8);
            hash = (hash ^ word) * 0xff51afd7ed558ccdu;
            hash ^= hash >> 32;
        }
        std::uint64_t word = 0;
        std::memcpy(&word, at, left);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        return hash ^ (hash >> 29);
    }

    std::uint32_t of(std::string_view text) {
        const std::uint64_t hash = hash_of(text);
        const std::size_t mask = slots.size() - 1;
        for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
            const std::int32_t number = slots[at];
            if (number < 0) {
                slots[at] = static_cast<std::int32_t>(texts.size());
                texts.emplace_back(text);
                hashes.push_back(hash);
                if (texts.size() * 2 > mask) grow();
                return static_cast<std::uint32_t>(texts.size() - 1);
            }
            const auto found = static_cast<std::size_t>(number);
            if (hashes[found] == hash && texts[found] == text) return static_cast<std::uint32_t>(number);
        }
    }

    void grow() {
        slots.assign(slots.size() * 2, -1);
        const std::size_t mask = slots.size() - 1;
        for (std::size_t number = 0; number < texts.size(); ++number) {
            std::size_t at = hashes[number] & mask;
            while (slots[at] >= 0) at = (at + 1) & mask;
            slots[at] = static_cast<std::int32_t>(number);
        }
    }
};

struct Group {
    std::uint64_t key;
    std::uint64_t count;  // 0: free
    std::int64_t units;
    double amount;
};

struct Window {
    std::vector<Group> slots = std::vector<Group>(1 << 12);
    std::size_t used = 0;

    Group& find(std::uint64_t key) {
        const std::size_t mask = slots.size() - 1;
        std::uint64_t mixed = (key ^ key >> 31) * 0x9E3779B97F4A7C15u;
        for (std::size_t at = (mixed ^ mixed >> 32) & mask;; at = (at + 1) & mask)
            if (slots[at].count == 0 || slots[at].key == key) return slots[at];
    }
    void add(std::uint64_t key, std::int64_t units, double amount) {
        Group& group = find(key);
        const bool is_new = group.count == 0;
        group = {key, group.count + 1, group.units + units, group.amount + amount};
        if (is_new && ++used * 2 > slots.size()) {
            std::vector<Group> before(slots.size() * 2);
            before.swap(slots);
            for (const Group& each : before)
                if (each.count != 0) find(each.key) = each;
        }
    }
};

struct Windows {
    std::vector<std::unique_ptr<Window>> by_minute;
    std::int64_t first = -1;
    Numbers skus;
    Numbers channels;

    Window& at(std::int64_t minute) {
        if (first < 0) first = minute - kDisorderMinutes;
        const auto place = static_cast<std::size_t>(minute - first);
        if (place >= by_minute.size()) by_minute.resize(place + 1);
        if (!by_minute[place]) by_minute[place] = std::make_unique<Window>();
        return *by_minute[place];
    }
};

void aggregate(ondemand::parser& parser, const simdjson::padded_string& data, Windows* windows) {
    ondemand::document_stream documents = parser.iterate_many(data, 1 << 20);
    for (auto document : documents) {
        ondemand::object event = document.get_object();
        const std::int64_t minute = time_ms(event.find_field("event_time").get_string()) / kMinuteMs;
        const std::string_view channel = event.find_field("channel").get_string();
        const std::string_view sku = event.find_field("sku").get_string();
        const std::int64_t units = event.find_field("qty").get_int64();
        const double price = event.find_field("unit_price").get_double();
        const double cost = event.find_field("unit_cost").get_double();
        const double discount = event.find_field("discount").get_double();
        if (price < cost) continue;
        const std::uint64_t key =
            static_cast<std::uint64_t>(windows->skus.of(sku)) << 8 | windows->channels.of(channel);
        windows->at(minute).add(key, units, static_cast<double>(units) * price * (1 - discount));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    simdjson::padded_string data = simdjson::padded_string::load(argv[1]);
    ondemand::parser parser;
    std::cout << "{\"version\": \"" << SIMDJSON_VERSION << " ("
              << simdjson::get_active_implementation()->name() << ")\"}" << std::endl;
    for (std::string request; std::getline(std::cin, request);) {
        const auto begin = std::chrono::steady_clock::now();
        Windows windows;
        aggregate(parser, data, &windows);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        if (request == "run") {
            std::cout << "{\"seconds\": " << seconds.count() << "}" << std::endl;
            continue;
        }
        std::size_t groups = 0;
        std::uint64_t rows = 0;
        std::int64_t units = 0;
        double amount = 0;
        for (const auto& window : windows.by_minute) {
            if (!window) continue;
            groups += window->used;
            for (const Group& group : window->slots) {
                if (group.count == 0) continue;
                rows += group.count;
                units += group.units;
                amount += group.amount;
            }
        }
        char text[64];
        std::snprintf(text, sizeof text, "%.5e", amount);
        std::cout << "{\"groups\": " << groups << ", \"rows\": " << rows << ", \"units\": " << units
                  << ", \"amount\": \"" << text << "\"}" << std::endl;
    }
}
