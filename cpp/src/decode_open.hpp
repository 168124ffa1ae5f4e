// Objects and arrays of no interest, opened: producers repeat what is inside them like all the rest, so its
// texts are learnt and its values skipped one by one, each at the place that the index of quotes tells.
//
// Where that is of no use the whole is one value: texts without a quote cannot be found by the index (arrays
// of numbers), long ones do not fit, and what never looks the same twice (objects whose keys are ids) would
// only be learnt in vain.
//
// Included by decode_layout.hpp.
#pragma once

#include "decode_steps.hpp"

namespace omnistream::OMNI_ISA {

class Opener {
public:
    explicit Opener(std::size_t longest_text) : longest_text_(longest_text) {}

    // The steps of a message that begins there, with values inside others, as steps one behind the other.
    const std::vector<Step>& open(const char* begin, const std::vector<Step>& steps) {
        steps_.clear();
        opened_.clear();
        begin_ = begin;
        bool was_opened = false;
        for (std::size_t i = 0; i < steps.size();) {
            const std::size_t first = steps_.size();
            const std::size_t behind = add(steps, i, !is_shut(steps[i]));
            // The text behind a value has its closing brackets, and may have become too long by them.
            if (was_opened && !fits(first)) {
                const Opened last = opened_.back();
                opened_.pop_back();
                steps_.resize(last.first);
                steps_.push_back(*last.whole);
                continue;  // the same step again
            }
            was_opened = steps_.size() != first && steps_[first].begin != steps[i].begin;
            if (was_opened) opened_.push_back({first, steps_.size(), &steps[i]});
            i = behind;
        }
        return steps_;
    }

    // To be told which of the steps last opened was new. True when something will not be opened any more, so
    // that what was learnt of its inside had better be forgotten.
    bool was_new(std::size_t step) {
        for (const Opened& opened : opened_) {
            if (step < opened.first || step >= opened.behind) continue;
            if (news_.size() == kMostCounted) news_.clear();  // keys that are ids would be counted for ever
            return ++news_[{opened.whole->object, std::string(opened.whole->key)}] == kMostNews;
        }
        return false;
    }

private:
    static constexpr std::size_t kMostInside = 64;  // values
    static constexpr int kMostNews = 256;           // of one object or array
    static constexpr std::size_t kMostCounted = 4'096;

    struct Opened {
        std::size_t first;
        std::size_t behind;
        const Step* whole;
    };

    [[nodiscard]] bool is_shut(const Step& step) const {
        if (step.inside == 0) return false;
        const auto found = news_.find({step.object, std::string(step.key)});
        return found != news_.end() && found->second >= kMostNews;
    }

    // Adds a step, or in place of it those inside it. The number behind them.
    std::size_t add(const std::vector<Step>& steps, std::size_t i, bool open) {
        const Step& whole = steps[i];
        const std::size_t first = steps_.size();
        const std::size_t behind = i + 1 + whole.inside;
        if (open && whole.inside != 0 && whole.inside <= kMostInside) {
            for (std::size_t next = i + 1; next < behind;) next = add(steps, next, true);
            bool fit = true;
            for (std::size_t each = first; each < steps_.size(); ++each) fit &= fits(each);
            if (fit) {
                steps_[first].marks = whole.marks;
                steps_[first].entered = whole.entered;
                steps_[first].unknown = whole.unknown;
                return behind;
            }
            steps_.resize(first);
        }
        steps_.push_back(whole);
        return behind;
    }

    // Whether the text in front of a step can be learnt, and found by a quote.
    [[nodiscard]] bool fits(std::size_t step) const {
        const char* from = step == 0 ? begin_ : steps_[step - 1].end;
        const std::string_view text(from, static_cast<std::size_t>(steps_[step].begin - from));
        return text.size() <= longest_text_ && (steps_[step].op == Op::end || text.find('"') != text.npos);
    }

    const std::size_t longest_text_;
    const char* begin_ = nullptr;
    std::vector<Step> steps_;
    std::vector<Opened> opened_;
    std::map<std::pair<const void*, std::string>, int> news_;
};

}  // namespace omnistream::OMNI_ISA
