// Messages of several producers among each other: each way (decode_track.hpp) reads its own messages, a field
// at a time, into rows of its own; then rows are put in the order of the messages.
//
// Included by decode_<isa>.cpp after decode_run.hpp.
#pragma once

#include "decode_run.hpp"

namespace omnistream::OMNI_ISA {

class Spread {
public:
    static constexpr std::size_t kMostTracks = 4;

    Spread(const DecodePlan& plan, Lanes& lanes, Arena& arena) : plan_(plan), lanes_(lanes), arena_(arena) {}

    // Reads as many of the messages as go one of these ways, up to the first that does not. Their number;
    // their rows are complete. Not for schemas that explode.
    std::size_t read(const QuoteIndex& index, const Places& places,
                     std::span<const std::unique_ptr<Track>> tracks) {
        std::array<Side*, kMostTracks> sides{};
        for (std::size_t i = 0; i < tracks.size(); ++i) sides[i] = &side_of(*tracks[i]);
        std::size_t count = deal(index, places, sides, tracks);
        const std::size_t dealt = count;
        for (Side* side : sides) {
            if (side == nullptr) continue;
            side->read = read_side(side, index, count);
            if (side->read < side->messages.size()) count = std::min(count, side->messages[side->read]);
        }
        // What is read in vain must not be much more than what is not.
        most_ = count == dealt ? std::min(2 * most_, kMostMessages) : std::max(2 * count, kFewest);
        unknown_fields_ = 0;
        sides_used_ = 0;
        for (Side* side : sides) {
            if (side == nullptr) continue;
            const auto& messages = side->messages;
            const auto kept = static_cast<std::size_t>(
                std::lower_bound(messages.begin(), messages.end(), count) - messages.begin());
            if (kept != 0) {
                const auto each = side->track.unknown_fields() / static_cast<std::int64_t>(side->read);
                unknown_fields_ += each * static_cast<std::int64_t>(kept);
                ++sides_used_;
            }
            side->read = kept;
        }
        if (count != 0) gather(sides, count);
        for (Side* side : sides)
            if (side != nullptr) side->forget_rows();
        return count;
    }
    [[nodiscard]] std::int64_t unknown_fields() const { return unknown_fields_; }
    // How many ways the messages went that were read last.
    [[nodiscard]] std::size_t sides_used() const { return sides_used_; }

private:
    static constexpr std::size_t kMostMessages = 512;
    static constexpr std::size_t kFewest = 16;

    // A way, with lanes of its own.
    struct Side {
        Side(const DecodePlan& plan, Arena& arena)
            : lanes(plan, Dictionaries(plan.fields.size())),
              reader(plan, lanes, arena),
              track(plan, lanes, reader) {
            lanes.begin();
        }
        void forget_rows() {
            lanes.rows[kMessage] = 0;
            for (Lane& lane : lanes.lane) lane.nulls.clear();
        }

        Lanes lanes;
        Reader reader;
        Track track;
        const Track* original = nullptr;
        std::uint32_t version = 0;
        PlaceList places;                   // of the first of them
        std::vector<std::size_t> messages;  // its own, by number
        std::size_t read = 0;
    };

    Side& side_of(const Track& track) {
        std::size_t at = 0;
        while (at + 1 < kMostTracks && sides_[at] != nullptr && sides_[at]->original != &track) ++at;
        if (sides_[at] == nullptr) sides_[at] = std::make_unique<Side>(plan_, arena_);
        Side& side = *sides_[at];
        if (side.original != &track || side.version != track.version()) {
            side.track.take_over(track);
            side.original = &track;
            side.version = track.version();
        }
        return side;
    }

    // Which message goes which way, up to the first that goes none.
    std::size_t deal(const QuoteIndex& index, const Places& places,
                     const std::array<Side*, kMostTracks>& sides,
                     std::span<const std::unique_ptr<Track>> tracks) {
        const std::size_t most = std::min(places.size, most_);
        for (Side* side : sides) {
            if (side == nullptr) continue;
            side->places.resize(most);
            side->messages.clear();
        }
        std::array<std::uint32_t, kMostTracks> quotes;
        quotes.fill(~std::uint32_t{0});
        for (std::size_t way = 0; way < tracks.size(); ++way) quotes[way] = tracks[way]->quotes();
        for (std::size_t i = 0; i < most; ++i) {
            const Place place = places[i];
            // Who sent a message is not to be predicted, so that it takes no branch where quotes tell.
            unsigned ways = 0;
            for (std::size_t way = 0; way < kMostTracks; ++way)
                ways |= unsigned{place.last_quote - place.first_quote == quotes[way]} << way;
            while (ways != 0 &&
                   !sides[static_cast<std::size_t>(std::countr_zero(ways))]->track.seems_to_fit(index, place))
                ways &= ways - 1;
            if (ways == 0) return i;
            const auto way = static_cast<std::size_t>(std::countr_zero(ways));
            way_of_[i] = static_cast<std::uint8_t>(way);
            const std::size_t row = sides[way]->messages.size();
            row_of_[i] = static_cast<std::uint32_t>(row);
            sides[way]->places.set(row, place);
            sides[way]->messages.push_back(i);
        }
        return most;
    }

    // Those of the first `count` messages that are this side's; how many of them could be read.
    static std::size_t read_side(Side* side, const QuoteIndex& index, std::size_t count) {
        auto& messages = side->messages;
        while (!messages.empty() && messages.back() >= count) messages.pop_back();
        if (messages.empty()) return 0;
        const Places places = side->places.all().first(messages.size());
        std::size_t size = 0;
        for (std::size_t i = 0; i < places.size; ++i) size += places.end[i] - places.begin[i];
        side->lanes.reserve_texts(size);
        return side->track.read_run(index, places);
    }

    // The rows of all sides, in the order of the first `count` messages.
    void gather(const std::array<Side*, kMostTracks>& sides, std::size_t count) {
        const std::size_t first = lanes_.rows[kMessage];
        lanes_.ensure(kMessage, first + count);
        for (std::size_t i = 0; i < lanes_.lane.size(); ++i) {
            Lane& to = lanes_.lane[i];
            if (to.type == Type::string || to.type == Type::binary) gather_strings(sides, i, first, count);
            const std::size_t nulls = to.nulls.size();
            for (const Side* side : sides) {
                if (side == nullptr) continue;
                const Lane& from = side->lanes.lane[i];
                switch (to.type) {
                    case Type::string:
                    case Type::binary:
                        break;
                    case Type::boolean:
                        put(*side, from.bytewise.data(), to.bytewise.data() + first);
                        break;
                    case Type::int32:
                        put(*side, from.narrow.data(), to.narrow.data() + first);
                        break;
                    case Type::dictionary:
                        put(*side, from.texts.data(), to.texts.data() + (first - lanes_.encoded[kMessage]));
                        break;
                    default:
                        put(*side, from.wide.data(), to.wide.data() + first);
                }
                for (const std::int32_t null : from.nulls) {
                    const auto row = static_cast<std::size_t>(null);
                    if (row < side->read)
                        to.nulls.push_back(static_cast<std::int32_t>(first + side->messages[row]));
                }
            }
            std::sort(to.nulls.begin() + static_cast<std::ptrdiff_t>(nulls), to.nulls.end());
        }
        lanes_.rows[kMessage] += count;
    }

    template <class T>
    static void put(const Side& side, const T* from, T* to) {
        const std::size_t* const messages = side.messages.data();
        for (std::size_t i = 0; i < side.read; ++i) to[messages[i]] = from[i];
    }

    void gather_strings(const std::array<Side*, kMostTracks>& sides, std::size_t field, std::size_t first,
                        std::size_t count) {
        std::array<const char*, kMostTracks> texts{};
        std::array<const std::int32_t*, kMostTracks> ends{};
        Lane& lane = lanes_.lane[field];
        std::int32_t* const offsets = lane.offsets.data() + first;
        auto end = static_cast<std::size_t>(offsets[0]);
        std::size_t most = end;
        for (std::size_t i = 0; i < kMostTracks; ++i) {
            if (sides[i] == nullptr || sides[i]->read == 0) continue;
            const Lane& from = sides[i]->lanes.lane[field];
            texts[i] = from.bytes.data();
            ends[i] = from.offsets.data();
            most += static_cast<std::size_t>(ends[i][sides[i]->read]);
        }
        if (most > lane.bytes.capacity()) lane.bytes.reserve(most + most / 2);
        char* const bytes = lane.bytes.data();
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t way = way_of_[i];
            const std::int32_t* at = ends[way] + row_of_[i];
            const char* from = texts[way] + at[0];
            const char* const stop = texts[way] + at[1];
            char* to = bytes + end;
            end += static_cast<std::size_t>(stop - from);
            offsets[i + 1] = static_cast<std::int32_t>(end);
            do {
                Simd::copy(to, from);
                to += Simd::kWidth;
                from += Simd::kWidth;
            } while (from < stop);
        }
    }

    const DecodePlan& plan_;
    Lanes& lanes_;
    Arena& arena_;
    std::array<std::unique_ptr<Side>, kMostTracks> sides_;
    std::array<std::uint8_t, kMostMessages> way_of_;   // by message
    std::array<std::uint32_t, kMostMessages> row_of_;  // of its way
    std::size_t most_ = kMostMessages;
    std::int64_t unknown_fields_ = 0;
    std::size_t sides_used_ = 0;
};

}  // namespace omnistream::OMNI_ISA
