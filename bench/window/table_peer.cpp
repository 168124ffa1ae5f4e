// The practical limit: rows of a file of int64 columns into a hash table written for just this query.
//
//     table_peer FILE.i64
//
// Window and key are compared, as an engine must; the table grows as it fills, and probes of a block are
// fetched ahead. Speaks the protocol of worker.py.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kDayMs = 86'400'000;
constexpr std::size_t kBlock = 256;

struct Group {
    std::int64_t window;
    std::int64_t key;
    std::int64_t count;  // 0: free
    std::int64_t units;
};

std::uint64_t hash_of(std::int64_t key) {
    const auto product =
        static_cast<unsigned __int128>(static_cast<std::uint64_t>(key) ^ 0xa0761d6478bd642f) *
        0xe7037ed1a0b428db;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

struct Table {
    std::vector<Group> slots = std::vector<Group>(1024);
    std::uint64_t mask = 1023;
    std::size_t used = 0;

    void add(const std::int64_t* times, const std::int64_t* keys, const std::int64_t* units,
             std::size_t count) {
        std::uint64_t hashes[kBlock];
        for (std::size_t i = 0; i < count; ++i) {
            hashes[i] = hash_of(keys[i]);
            __builtin_prefetch(&slots[hashes[i] & mask], 1);
        }
        for (std::size_t i = 0; i < count; ++i) {
            const std::int64_t window = times[i] / kDayMs;
            for (std::uint64_t at = hashes[i] & mask;; at = (at + 1) & mask) {
                Group& group = slots[at];
                if (group.count == 0) {
                    group = {window, keys[i], 1, units[i]};
                    if (++used * 2 > slots.size()) grow();
                    break;
                }
                if (group.key == keys[i] && group.window == window) {
                    ++group.count;
                    group.units += units[i];
                    break;
                }
            }
        }
    }

    void grow() {
        std::vector<Group> before(slots.size() * 2);
        before.swap(slots);
        mask = slots.size() - 1;
        for (const Group& group : before) {
            if (group.count == 0) continue;
            std::uint64_t at = hash_of(group.key) & mask;
            while (slots[at].count != 0) at = (at + 1) & mask;
            slots[at] = group;
        }
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    std::ifstream file(argv[1], std::ios::binary | std::ios::ate);
    const auto words = static_cast<std::size_t>(file.tellg()) / sizeof(std::int64_t);
    std::vector<std::int64_t> data(words);
    file.seekg(0);
    file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(words * sizeof data[0]));
    const std::size_t rows = words / 3;
    std::cout << R"({"version": "C++"})" << std::endl;
    for (std::string request; std::getline(std::cin, request);) {
        const auto begin = std::chrono::steady_clock::now();
        Table table;
        std::vector<std::int64_t> out[4];  // the result as columns, as the engines give it
        for (std::size_t at = 0; at < rows; at += kBlock)
            table.add(data.data() + at, data.data() + rows + at, data.data() + 2 * rows + at,
                      std::min(kBlock, rows - at));
        for (std::vector<std::int64_t>& column : out) column.reserve(table.used);
        for (const Group& group : table.slots) {
            if (group.count == 0) continue;
            out[0].push_back(group.window);
            out[1].push_back(group.key);
            out[2].push_back(group.count);
            out[3].push_back(group.units);
        }
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        if (request == "run") {
            std::cout << "{\"seconds\": " << seconds.count() << "}" << std::endl;
            continue;
        }
        std::uint64_t count = 0;
        std::uint64_t units = 0;
        std::uint64_t checksum = 0;
        for (std::size_t i = 0; i < out[1].size(); ++i) {
            const auto key = static_cast<std::uint64_t>(out[1][i]);
            const auto n = static_cast<std::uint64_t>(out[2][i]);
            const auto sum = static_cast<std::uint64_t>(out[3][i]);
            count += n;
            units += sum;
            checksum += key * n + ~key * sum;
        }
        std::cout << "{\"groups\": " << out[1].size() << ", \"rows\": " << count << ", \"units\": " << units
                  << ", \"checksum\": " << checksum << "}" << std::endl;
    }
}
