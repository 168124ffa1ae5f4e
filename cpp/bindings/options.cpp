#include "options.hpp"

#include <map>
#include <utility>

namespace omnistream::python {

Type type_of(const std::string& name) {
    static const std::pair<const char*, Type> kNames[] = {
        {"bool", Type::boolean},    {"int32", Type::int32},           {"int64", Type::int64},
        {"decimal", Type::decimal}, {"float64", Type::float64},       {"timestamp", Type::timestamp_ms},
        {"string", Type::string},   {"dictionary", Type::dictionary}, {"binary", Type::binary},
    };
    for (const auto& [key, type] : kNames)
        if (name == key) return type;
    throw py::value_error("unknown type '" + name + "'");
}

std::vector<Type> types_of(const py::dict& options, const std::vector<std::string>& columns) {
    const auto types = get<std::map<std::string, std::string>>(options, "types");
    std::vector<Type> out;
    for (const std::string& column : columns)
        out.push_back(column.empty() ? Type::int64 : type_of(types.at(column)));
    return out;
}

Schema schema_of(const py::dict& options) {
    Schema schema;
    for (const py::handle item : options["fields"]) {
        const auto field = item.cast<py::dict>();
        schema.fields.push_back(Field{
            .name = get<std::string>(field, "name"),
            .path = get<std::vector<std::string>>(field, "path"),
            .type = type_of(get<std::string>(field, "type")),
            .level = static_cast<std::uint8_t>(get<int>(field, "level")),
            .required = get<bool>(field, "required"),
            .coerce = get<bool>(field, "coerce"),
            .checked = field.contains("checked"),
            .timestamp_forms = static_cast<std::uint8_t>(get<int>(field, "timestamp_forms")),
            .has_default = get<bool>(field, "has_default"),
            .default_integer = get<std::int64_t>(field, "default_integer"),
            .default_float = get<double>(field, "default_float"),
            .default_string = get<std::string>(field, "default_string"),
        });
    }
    for (const py::handle item : options["explode"]) {
        const auto array = item.cast<py::dict>();
        schema.explode.push_back(
            {get<std::vector<std::string>>(array, "path"), get<std::string>(array, "name")});
    }
    schema.max_message_bytes = get<std::int64_t>(options, "max_message_bytes");
    schema.max_depth = get<std::int32_t>(options, "max_depth");
    schema.strict_utf8 = get<bool>(options, "strict_utf8");
    schema.array_messages = get<bool>(options, "array_messages");
    return schema;
}

Condition condition_of(const py::dict& options, const char* name) {
    const auto condition = get_or<py::dict>(options, name, {});
    if (condition.empty()) return {};
    return {get<std::string>(condition, "column"), get<std::vector<std::string>>(condition, "plus"),
            get<std::vector<std::string>>(condition, "minus")};
}

}  // namespace omnistream::python
