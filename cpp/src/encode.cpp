#include "omnistream/encode.hpp"

#include <algorithm>

#include "omnistream/window.hpp"

namespace omnistream {
namespace {

Column encode_strings(const Column& column, const std::shared_ptr<Dictionary>& dictionary) {
    std::vector<Text> texts;
    std::vector<std::int64_t> rows;
    texts.reserve(static_cast<std::size_t>(column.length));
    for (std::int64_t row = 0; row < column.length; ++row) {
        if (!column.valid(row)) continue;
        const std::string_view text = column.text(row);
        texts.push_back({text.data(), static_cast<std::uint32_t>(text.size())});
        rows.push_back(row);
    }
    std::vector<std::int32_t> codes(texts.size());
    dictionary->encode(texts.data(), texts.size(), codes.data());
    Array<std::int32_t> lanes;
    lanes.resize(static_cast<std::size_t>(column.length), 0);
    for (std::size_t i = 0; i < rows.size(); ++i) lanes[rows[i]] = codes[i];
    Column out = column;
    out.type = Type::dictionary;
    out.offsets = {};
    out.values = lanes.finish();
    out.dictionary = dictionary;
    return out;
}

// Codes of another dictionary: each distinct code is translated when a row first shows it, so that numbers
// are given in the order of rows, as for plain strings.
Column translate_codes(const Column& column, const std::shared_ptr<Dictionary>& dictionary) {
    std::vector<std::int32_t> translated(static_cast<std::size_t>(column.dictionary->size()), -1);
    const auto* codes = column.lanes<std::int32_t>();
    Array<std::int32_t> lanes;
    lanes.resize(static_cast<std::size_t>(column.length), 0);
    for (std::int64_t row = 0; row < column.length; ++row) {
        if (!column.valid(row)) continue;
        std::int32_t& code = translated[static_cast<std::size_t>(codes[row])];
        if (code < 0) code = dictionary->encode(column.dictionary->value(codes[row]));
        lanes[row] = code;
    }
    Column out = column;
    out.values = lanes.finish();
    out.dictionary = dictionary;
    return out;
}

}  // namespace

Status encode_columns(const Batch& batch,
                      const std::map<std::string, std::shared_ptr<Dictionary>>& dictionaries,
                      std::shared_ptr<Batch>* out) {
    *out = std::make_shared<Batch>(batch);
    for (Column& column : (*out)->columns) {
        const auto found = dictionaries.find(column.name);
        if (found == dictionaries.end() || column.dictionary == found->second) continue;
        if (column.type == Type::string) {
            column = encode_strings(column, found->second);
        } else if (column.type == Type::dictionary) {
            column = translate_codes(column, found->second);
        } else {
            return {Code::schema, "column '" + column.name + "' holds no strings to encode"};
        }
    }
    return {};
}

bool encoded(const Batch& batch, const std::map<std::string, std::shared_ptr<Dictionary>>& dictionaries) {
    return std::all_of(batch.columns.begin(), batch.columns.end(), [&](const Column& column) {
        const auto found = dictionaries.find(column.name);
        return found == dictionaries.end() || column.dictionary == found->second;
    });
}

void Translation::learn(const Column& texts) {
    codes_.reserve(codes_.size() + static_cast<std::size_t>(texts.length));
    for (std::int64_t row = 0; row < texts.length; ++row) codes_.push_back(ours_->encode(texts.text(row)));
}

Column Translation::translate(const Column& column) const {
    const auto* codes = column.lanes<std::int32_t>();
    Array<std::int32_t> lanes;
    lanes.resize(static_cast<std::size_t>(column.length), 0);
    if (column.null_count == 0) {
        for (std::int64_t row = 0; row < column.length; ++row) lanes[row] = codes_[codes[row]];
    } else {
        for (std::int64_t row = 0; row < column.length; ++row)
            if (column.valid(row)) lanes[row] = codes_[codes[row]];
    }
    Column out = column;
    out.values = lanes.finish();
    out.dictionary = ours_;
    return out;
}

Status translate_columns(const Batch& batch,
                         const std::map<std::string, std::shared_ptr<Translation>>& translations,
                         std::shared_ptr<Batch>* out) {
    *out = std::make_shared<Batch>(batch);
    for (Column& column : (*out)->columns) {
        const auto found = translations.find(column.name);
        if (found == translations.end()) continue;
        if (column.type != Type::dictionary)
            return {Code::schema, "column '" + column.name + "' has no codes to translate"};
        column = found->second->translate(column);
    }
    return {};
}

Status add_amounts(const Batch& batch, const std::string& quantity, const std::string& unit_price,
                   const std::string& discount, const std::vector<std::string>& wanted,
                   std::shared_ptr<Batch>* out, std::vector<std::int32_t>* overflowed) {
    const Column* units = batch.find(quantity);
    const Column* price = batch.find(unit_price);
    const Column* rebate = discount.empty() ? nullptr : batch.find(discount);
    if (units == nullptr || price == nullptr)
        return {Code::schema, "amounts need the columns '" + quantity + "' and '" + unit_price + "'"};
    const auto of = [&wanted](const char* name) {
        return std::find(wanted.begin(), wanted.end(), name) == wanted.end() ? Wanted::no : Wanted::yes;
    };
    *out = std::make_shared<Batch>(batch);
    std::vector<std::int32_t> also;
    Column gross = line_amount(*units, *price, nullptr, "gross_amount", overflowed, of("gross_amount"));
    if (of("gross_amount") == Wanted::yes) (*out)->columns.push_back(std::move(gross));
    Column net = line_amount(*units, *price, rebate, "amount", &also, of("amount"));
    if (of("amount") == Wanted::yes) (*out)->columns.push_back(std::move(net));
    // A discount below zero raises an amount, so either list may hold rows that the other lacks.
    overflowed->insert(overflowed->end(), also.begin(), also.end());
    std::sort(overflowed->begin(), overflowed->end());
    overflowed->erase(std::unique(overflowed->begin(), overflowed->end()), overflowed->end());
    return {};
}

}  // namespace omnistream
