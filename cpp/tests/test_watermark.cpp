// Watermarks of one partition and of several, by hand and against their definition.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "check.hpp"
#include "omnistream/watermark.hpp"

using namespace omnistream;

namespace {

constexpr std::int64_t kNone = Watermark::kNone;

void watermark_of_one_partition() {
    Watermark watermark(10);
    CHECK(watermark.value() == kNone);
    CHECK(watermark.max_event_time_ms() == kNone);
    const std::int32_t slot = watermark.slot("s", 0);
    CHECK(watermark.slot("s", 0) == slot);
    CHECK(watermark.value() == kNone);
    watermark.observe(slot, 100);
    CHECK(watermark.value() == 90);
    watermark.observe(slot, 50);
    CHECK(watermark.value() == 90);
    CHECK(watermark.max_event_time_ms() == 100);
    watermark.advance(80);
    CHECK(watermark.value() == 90);
    watermark.advance(95);
    CHECK(watermark.value() == 95);
    watermark.observe(slot, 104);
    CHECK(watermark.value() == 95);
    watermark.observe(slot, 106);
    CHECK(watermark.value() == 96);
    watermark.set_idle(slot);
    CHECK(watermark.value() == 96);
    watermark.advance(Watermark::kEnd);
    watermark.observe(slot, 1'000);
    CHECK(watermark.value() == Watermark::kEnd);

    Watermark extreme(Watermark::kEnd);
    extreme.observe(extreme.slot("s", 0), kNone + 1);
    CHECK(extreme.value() == kNone);
}

void watermark_of_many_partitions() {
    Watermark watermark(0);
    const std::int32_t a = watermark.slot("s", 0);
    const std::int32_t b = watermark.slot("s", 1);
    const std::int32_t c = watermark.slot("t", 0);
    CHECK(a != b && b != c && a != c);
    watermark.observe(a, 100);
    CHECK(watermark.value() == 100);  // b and c have shown nothing, and were not declared
    watermark.observe(b, 40);
    CHECK(watermark.value() == 100);  // b joins behind, and the value does not move back
    watermark.observe(a, 300);
    CHECK(watermark.value() == 100);
    watermark.observe(b, 150);
    CHECK(watermark.value() == 150);
    watermark.set_idle(b);
    CHECK(watermark.value() == 300);
    watermark.observe(a, 310);
    CHECK(watermark.value() == 310);
    watermark.observe(b, 305);
    watermark.observe(a, 400);
    CHECK(watermark.value() == 310);  // b is back, and holds
    watermark.observe(b, 320);
    CHECK(watermark.value() == 320);
    watermark.set_idle(a);
    watermark.set_idle(b);
    CHECK(watermark.value() == 320);  // all idle: nothing is known of what comes
    watermark.observe(c, 500);
    CHECK(watermark.value() == 500);
    CHECK(watermark.max_event_time_ms() == 500);
}

void declared_partitions() {
    Watermark watermark(0);
    watermark.declare("s", 0);
    watermark.declare("s", 1);
    const std::int32_t a = watermark.slot("s", 0);
    const std::int32_t b = watermark.slot("s", 1);
    watermark.observe(a, 100);
    CHECK(watermark.value() == kNone);
    watermark.observe(b, 70);
    CHECK(watermark.value() == 70);
    watermark.declare("s", 1);  // has rows already
    watermark.observe(b, 80);
    CHECK(watermark.value() == 80);
    watermark.declare("s", 2);
    watermark.observe(b, 90);
    CHECK(watermark.value() == 80);
    watermark.set_idle(watermark.slot("s", 2));
    CHECK(watermark.value() == 90);

    Watermark restored(0);
    restored.restore(watermark.partitions(), watermark.value(), watermark.max_event_time_ms());
    CHECK(restored.value() == 90);
    CHECK(restored.max_event_time_ms() == 100);
    CHECK(restored.partitions().size() == 3);
    CHECK(restored.slot("s", 1) == b);
    restored.observe(b, 95);
    CHECK(restored.value() == 95);
    restored.observe(restored.slot("s", 2), 91);
    restored.observe(b, 200);
    CHECK(restored.value() == 95);
}

// observe() keeps a minimum, Run keeps the others' minimum: both must do what the definition says.
void watermark_against_its_definition() {
    struct Partition {
        std::int64_t newest = kNone;
        bool counts = false;
    };
    std::mt19937_64 random(13);
    for (int round = 0; round < 200; ++round) {
        const std::int64_t disorder = static_cast<std::int64_t>(random() % 20);
        Watermark single(disorder);
        Watermark runs(disorder);
        std::vector<Partition> partitions(1 + random() % 5);
        std::int64_t expected = kNone;
        const auto refresh = [&] {
            std::int64_t least = Watermark::kEnd;
            bool any = false;
            for (const Partition& each : partitions)
                if (each.counts) {
                    least = std::min(least, each.newest);
                    any = true;
                }
            if (any && least != kNone) expected = std::max(expected, least - disorder);
        };
        bool same = true;
        for (int step = 0; step < 100; ++step) {
            const auto which = static_cast<std::int32_t>(random() % partitions.size());
            const std::int32_t slot = single.slot("s", which);
            same = same && runs.slot("s", which) == slot;
            const auto action = random() % 16;
            if (action == 0) {
                partitions[which].counts = false;
                single.set_idle(slot);
                runs.set_idle(slot);
                refresh();
            } else if (action == 1) {
                if (partitions[which].newest == kNone) partitions[which].counts = true;
                single.declare("s", which);
                runs.declare("s", which);
            } else if (action == 2) {
                const std::int64_t to = step * 3 - 20;
                expected = std::max(expected, to);
                single.advance(to);
                runs.advance(to);
            } else {
                Watermark::Run run = runs.begin(slot);
                for (std::uint64_t i = 0; i <= random() % 4; ++i) {
                    const std::int64_t time = step * 3 + static_cast<std::int64_t>(random() % 30);
                    partitions[which].newest = std::max(partitions[which].newest, time);
                    partitions[which].counts = true;
                    refresh();
                    single.observe(slot, time);
                    run.observe(time);
                    same = same && run.value() == expected && single.value() == expected;
                }
                runs.end(slot, run);
            }
            same = same && single.value() == expected && runs.value() == expected &&
                   single.max_event_time_ms() == runs.max_event_time_ms();
        }
        CHECK(same);
    }
}

}  // namespace

int main() {
    watermark_of_one_partition();
    watermark_of_many_partitions();
    declared_partitions();
    watermark_against_its_definition();
    return report("watermark");
}
