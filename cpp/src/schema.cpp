#include "omnistream/schema.hpp"

namespace omnistream {

const char* type_name(Type type) {
    switch (type) {
        case Type::boolean:
            return "bool";
        case Type::int32:
            return "int32";
        case Type::int64:
            return "int64";
        case Type::decimal:
            return "decimal";
        case Type::float64:
            return "float64";
        case Type::timestamp_ms:
            return "timestamp";
        case Type::string:
            return "string";
        case Type::dictionary:
            return "dictionary";
        case Type::binary:
            return "binary";
    }
    return "unknown";
}

}  // namespace omnistream
