// Which state a window takes, and which it refuses.
#include <string>
#include <vector>

#include "windows.hpp"

using namespace omnistream;

namespace {

// A new measure knows the rows from the restore on, or all where it is made of what is there.
void test_measures_are_added() {
    for (const bool sessions : {false, true}) {
        Dictionaries dictionaries;
        WindowSpec spec = minutes({"sku"}, {{"units", Operation::sum, "units", {}}});
        if (sessions) {
            spec.kind = WindowKind::session;
            spec.size_ms = 0;
            spec.gap_ms = 60'000;
        }
        Window before = window(spec);
        push(&before, {{.sku = "a", .units = 5}, {.sku = "b", .units = 7}}, dictionaries);
        const Parts saved = snapshot_of(before);
        spec.measures = {
            {"rows", Operation::count, "", {}},       {"units", Operation::sum, "units", {}},
            {"least", Operation::min, "units", {}},   {"again", Operation::sum, "units", {}},
            {"paid", Operation::sum, "units", kPaid}, {"stores", Operation::distinct, "store", {}}};
        Window after = window(spec);
        CHECK(after.restore(saved).ok());
        push(&after, {{.sku = "a", .store = 1, .type = "paid", .units = 9}}, dictionaries);
        Window again = window(spec);
        CHECK(again.restore(snapshot_of(after)).ok());
        CHECK(closed_by(&again, kMost) == "0 60000 a 1 14 9 14 9 1\n0 60000 b 0 7 null 7 0 0\n");
        CHECK(before.restore(snapshot_of(after)).code() == Code::state);  // none is ever taken away
    }
}

void test_snapshot_refused() {
    Dictionaries dictionaries;
    WindowSpec spec = minutes({"sku"}, {{"units", Operation::sum, "units", kPaid}});
    Window sales = window(spec);
    push(&sales, {{.sku = "a", .type = "paid", .units = 1}}, dictionaries);
    const Parts saved = snapshot_of(sales);

    WindowSpec other = spec;
    other.measures[0].condition = kNet;
    Status status = window(other).restore(saved);
    CHECK(status.code() == Code::state && status.message().find("-'returned'") != std::string::npos);
    other = spec;
    other.measures.push_back({"middle", Operation::mean, "units", kPaid});
    status = window(other).restore(saved);
    CHECK(status.code() == Code::state &&
          status.message().find("measure 'middle' cannot be added") != std::string::npos);
    other = spec;
    other.measures.clear();
    other.measures.push_back({"rows", Operation::count, "", {}});
    CHECK(window(other).restore(saved).code() == Code::state);
    other = spec;
    other.size_ms = 3'600'000;
    status = window(other).restore(saved);
    CHECK(status.code() == Code::state && status.message().find("size_ms 60000") != std::string::npos);
    auto broken = saved;
    broken.erase(broken.begin() + 2);
    CHECK(window(spec).restore(broken).code() == Code::state);

    // A window that is not empty takes the saved state in place of its own.
    push(&sales, {{.sku = "b", .type = "paid", .units = 5}}, dictionaries);
    CHECK(sales.restore(saved).ok());
    push(&sales, {{.sku = "a", .type = "paid", .units = 2}}, dictionaries);
    CHECK(closed_by(&sales, kMost) == "0 60000 a 3\n");
}

}  // namespace

int main() {
    test_measures_are_added();
    test_snapshot_refused();
    return report("window restore");
}
