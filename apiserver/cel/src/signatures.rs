//! Every function of the environment and its overloads, as data.

use crate::types::{self, Type};
use std::collections::HashMap;
use std::sync::LazyLock;

/// One way to call a function. A member's receiver is its first argument.
#[derive(Debug)]
pub struct Overload {
    pub id: String,
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
}

/// The overloads of the function; empty where there is none.
pub fn overloads(function: &str) -> &'static [Overload] {
    static TABLE: LazyLock<HashMap<String, Vec<Overload>>> = LazyLock::new(load);
    TABLE.get(function).map_or(&[], Vec::as_slice)
}

/// `function overload-id [receiver.](arguments)->result`; `A` and `B` are parameters.
const TABLE: &str = "
_&&_ logical_and (bool,bool)->bool
_||_ logical_or (bool,bool)->bool
!_ logical_not (bool)->bool
@not_strictly_false not_strictly_false (bool)->bool
_?_:_ conditional (bool,A,A)->A
_==_ equals (A,A)->bool
_!=_ not_equals (A,A)->bool
@in in_list (A,list(A))->bool
@in in_map (A,map(A,B))->bool
_[_] index_list (list(A),int)->A
_[_] index_map (map(A,B),A)->B
_[_] optional_list_index_value (optional(list(A)),int)->optional(A)
_[_] optional_map_index_value (optional(map(A,B)),A)->optional(B)
_[?_] list_optindex_optional_int (list(A),int)->optional(A)
_[?_] optional_list_optindex_optional_int (optional(list(A)),int)->optional(A)
_[?_] map_optindex_optional_value (map(A,B),A)->optional(B)
_[?_] optional_map_optindex_optional_value (optional(map(A,B)),A)->optional(B)
_+_ add_bytes (bytes,bytes)->bytes
_+_ add_double (double,double)->double
_+_ add_duration_duration (duration,duration)->duration
_+_ add_duration_timestamp (duration,timestamp)->timestamp
_+_ add_timestamp_duration (timestamp,duration)->timestamp
_+_ add_int64 (int,int)->int
_+_ add_list (list(A),list(A))->list(A)
_+_ add_string (string,string)->string
_+_ add_uint64 (uint,uint)->uint
_-_ subtract_double (double,double)->double
_-_ subtract_duration_duration (duration,duration)->duration
_-_ subtract_int64 (int,int)->int
_-_ subtract_timestamp_duration (timestamp,duration)->timestamp
_-_ subtract_timestamp_timestamp (timestamp,timestamp)->duration
_-_ subtract_uint64 (uint,uint)->uint
_*_ multiply_double (double,double)->double
_*_ multiply_int64 (int,int)->int
_*_ multiply_uint64 (uint,uint)->uint
_/_ divide_double (double,double)->double
_/_ divide_int64 (int,int)->int
_/_ divide_uint64 (uint,uint)->uint
_%_ modulo_int64 (int,int)->int
_%_ modulo_uint64 (uint,uint)->uint
-_ negate_double (double)->double
-_ negate_int64 (int)->int
size size_bytes (bytes)->int
size size_list (list(A))->int
size size_map (map(A,B))->int
size size_string (string)->int
size bytes_size bytes.()->int
size list_size list(A).()->int
size map_size map(A,B).()->int
size string_size string.()->int
type type (A)->type(A)
dyn to_dyn (A)->dyn
bool bool_to_bool (bool)->bool
bool string_to_bool (string)->bool
bytes bytes_to_bytes (bytes)->bytes
bytes string_to_bytes (string)->bytes
double double_to_double (double)->double
double int64_to_double (int)->double
double string_to_double (string)->double
double uint64_to_double (uint)->double
duration duration_to_duration (duration)->duration
duration int64_to_duration (int)->duration
duration string_to_duration (string)->duration
int double_to_int64 (double)->int
int duration_to_int64 (duration)->int
int int64_to_int64 (int)->int
int string_to_int64 (string)->int
int timestamp_to_int64 (timestamp)->int
int uint64_to_int64 (uint)->int
string bool_to_string (bool)->string
string bytes_to_string (bytes)->string
string double_to_string (double)->string
string duration_to_string (duration)->string
string int64_to_string (int)->string
string string_to_string (string)->string
string timestamp_to_string (timestamp)->string
string uint64_to_string (uint)->string
string ip_to_string (ip)->string
string cidr_to_string (cidr)->string
timestamp int64_to_timestamp (int)->timestamp
timestamp string_to_timestamp (string)->timestamp
timestamp timestamp_to_timestamp (timestamp)->timestamp
uint double_to_uint64 (double)->uint
uint int64_to_uint64 (int)->uint
uint string_to_uint64 (string)->uint
uint uint64_to_uint64 (uint)->uint
contains contains_string string.(string)->bool
endsWith ends_with_string string.(string)->bool
startsWith starts_with_string string.(string)->bool
matches matches (string,string)->bool
matches matches_string string.(string)->bool
charAt string_char_at_int string.(int)->string
indexOf string_index_of_string string.(string)->int
indexOf string_index_of_string_int string.(string,int)->int
lastIndexOf string_last_index_of_string string.(string)->int
lastIndexOf string_last_index_of_string_int string.(string,int)->int
join list_join list(string).()->string
join list_join_string list(string).(string)->string
lowerAscii string_lower_ascii string.()->string
upperAscii string_upper_ascii string.()->string
replace string_replace_string_string string.(string,string)->string
replace string_replace_string_string_int string.(string,string,int)->string
split string_split_string string.(string)->list(string)
split string_split_string_int string.(string,int)->list(string)
substring string_substring_int string.(int)->string
substring string_substring_int_int string.(int,int)->string
trim string_trim string.()->string
format string_format string.(list(dyn))->string
strings.quote strings_quote (string)->string
indexOf list_a_index_of_int list(A).(A)->int
lastIndexOf list_a_last_index_of_int list(A).(A)->int
slice list_slice list(A).(int,int)->list(A)
flatten list_flatten list(list(A)).()->list(A)
flatten list_flatten_int list(dyn).(int)->list(dyn)
reverse list_reverse list(A).()->list(A)
distinct list_distinct list(A).()->list(A)
lists.range lists_range (int)->list(int)
find string_find_string string.(string)->string
findAll string_find_all_string string.(string)->list(string)
findAll string_find_all_string_int string.(string,int)->list(string)
url string_to_url (string)->url
isURL is_url_string (string)->bool
getScheme url_get_scheme url.()->string
getHost url_get_host url.()->string
getHostname url_get_hostname url.()->string
getPort url_get_port url.()->string
getEscapedPath url_get_escaped_path url.()->string
getQuery url_get_query url.()->map(string,list(string))
ip string_to_ip (string)->ip
ip cidr_ip cidr.()->ip
isIP is_ip (string)->bool
ip.isCanonical ip_is_canonical (string)->bool
family family ip.()->int
isUnspecified is_unspecified ip.()->bool
isLoopback is_loopback ip.()->bool
isLinkLocalMulticast is_link_local_multicast ip.()->bool
isLinkLocalUnicast is_link_local_unicast ip.()->bool
isGlobalUnicast is_global_unicast ip.()->bool
cidr string_to_cidr (string)->cidr
isCIDR is_cidr (string)->bool
containsIP cidr_contains_ip_ip cidr.(ip)->bool
containsIP cidr_contains_ip_string cidr.(string)->bool
containsCIDR cidr_contains_cidr cidr.(cidr)->bool
containsCIDR cidr_contains_cidr_string cidr.(string)->bool
masked masked cidr.()->cidr
prefixLength prefix_length cidr.()->int
quantity string_to_quantity (string)->quantity
isQuantity is_quantity_string (string)->bool
sign quantity_sign quantity.()->int
isInteger quantity_is_integer quantity.()->bool
asInteger quantity_get_int quantity.()->int
asApproximateFloat quantity_get_float quantity.()->double
add quantity_add quantity.(quantity)->quantity
add quantity_add_int quantity.(int)->quantity
sub quantity_sub quantity.(quantity)->quantity
sub quantity_sub_int quantity.(int)->quantity
isLessThan quantity_is_less_than quantity.(quantity)->bool
isGreaterThan quantity_is_greater_than quantity.(quantity)->bool
compareTo quantity_compare_to quantity.(quantity)->int
semver string_to_semver (string)->semver
semver string_bool_to_semver (string,bool)->semver
isSemver is_semver_string (string)->bool
isSemver is_semver_string_bool (string,bool)->bool
major semver_major semver.()->int
minor semver_minor semver.()->int
patch semver_patch semver.()->int
isLessThan semver_is_less_than semver.(semver)->bool
isGreaterThan semver_is_greater_than semver.(semver)->bool
compareTo semver_compare_to semver.(semver)->int
format.named format_named (string)->optional(format)
validate format_validate format.(string)->optional(list(string))
sets.contains list_sets_contains_list (list(A),list(A))->bool
sets.equivalent list_sets_equivalent_list (list(A),list(A))->bool
sets.intersects list_sets_intersects_list (list(A),list(A))->bool
path authorizer_path authorizer.(string)->path_check
group authorizer_group authorizer.(string)->group_check
serviceAccount authorizer_serviceaccount authorizer.(string,string)->authorizer
resource groupcheck_resource group_check.(string)->resource_check
subresource resourcecheck_subresource resource_check.(string)->resource_check
namespace resourcecheck_namespace resource_check.(string)->resource_check
name resourcecheck_name resource_check.(string)->resource_check
fieldSelector resourcecheck_fieldselector resource_check.(string)->resource_check
labelSelector resourcecheck_labelselector resource_check.(string)->resource_check
check pathcheck_check path_check.(string)->decision
check resourcecheck_check resource_check.(string)->decision
allowed decision_allowed decision.()->bool
reason decision_reason decision.()->string
errored decision_errored decision.()->bool
error decision_error decision.()->string
optional.of optional_of (A)->optional(A)
optional.ofNonZeroValue optional_ofNonZeroValue (A)->optional(A)
optional.none optional_none ()->optional(A)
optional.unwrap optional_unwrap (list(optional(A)))->list(A)
unwrapOpt optional_unwrapOpt list(optional(A)).()->list(A)
hasValue optional_hasValue optional(A).()->bool
value optional_value optional(A).()->A
or optional_or_optional optional(A).(optional(A))->optional(A)
orValue optional_orValue_value optional(A).(A)->A
first list_first list(A).()->optional(A)
last list_last list(A).()->optional(A)
cel.@mapInsert @mapInsert_map_key_value (map(A,B),A,B)->map(A,B)
cel.@mapInsert @mapInsert_map_map (map(A,B),map(A,B))->map(A,B)
jsonpatch.escapeKey jsonpatch_escapeKey_string (string)->string
";

const COMPARABLE: &[(&str, &str)] = &[
    ("bool", "bool"),
    ("int", "int64"),
    ("uint", "uint64"),
    ("double", "double"),
    ("string", "string"),
    ("bytes", "bytes"),
    ("timestamp", "timestamp"),
    ("duration", "duration"),
];

fn load() -> HashMap<String, Vec<Overload>> {
    let mut table: HashMap<String, Vec<Overload>> = HashMap::new();
    let mut add = |line: &str| {
        if let Some((function, overload)) = read(line) {
            table.entry(function).or_default().push(overload);
        }
    };
    TABLE.lines().filter(|line| !line.is_empty()).for_each(&mut add);
    for (operator, name) in [
        ("_<_", "less"),
        ("_<=_", "less_equals"),
        ("_>_", "greater"),
        ("_>=_", "greater_equals"),
    ] {
        for (ty, id) in COMPARABLE {
            add(&format!("{operator} {name}_{id} ({ty},{ty})->bool"));
        }
        let numbers = &COMPARABLE[1..4];
        for (a, a_id) in numbers {
            for (b, b_id) in numbers.iter().filter(|(b, _)| a != b) {
                add(&format!("{operator} {name}_{a_id}_{b_id} ({a},{b})->bool"));
            }
        }
    }
    for (ty, _) in COMPARABLE {
        add(&format!("isSorted list_{ty}_is_sorted_bool list({ty}).()->bool"));
        add(&format!("min list_{ty}_min_{ty} list({ty}).()->{ty}"));
        add(&format!("max list_{ty}_max_{ty} list({ty}).()->{ty}"));
        add(&format!("sort list_{ty}_sort list({ty}).()->list({ty})"));
        add(&format!(
            "@sortByAssociatedKeys list_{ty}_sortByAssociatedKeys list(A).(list({ty}))->list(A)"
        ));
        if matches!(*ty, "int" | "uint" | "double" | "duration") {
            add(&format!("sum list_{ty}_sum_{ty} list({ty}).()->{ty}"));
        }
    }
    for name in [
        "getFullYear",
        "getMonth",
        "getDayOfYear",
        "getDayOfMonth",
        "getDate",
        "getDayOfWeek",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ] {
        add(&format!("{name} timestamp_to_{name} timestamp.()->int"));
        add(&format!("{name} timestamp_to_{name}_with_tz timestamp.(string)->int"));
    }
    for name in ["getHours", "getMinutes", "getSeconds", "getMilliseconds"] {
        add(&format!("{name} duration_to_{name} duration.()->int"));
    }
    for format in crate::functions::format::FORMATS {
        add(&format!("format.{0} format_{0} ()->format", format.name));
    }
    table
}

fn read(line: &str) -> Option<(String, Overload)> {
    let mut words = line.splitn(3, ' ');
    let (function, id, signature) = (words.next()?, words.next()?, words.next()?);
    let (from, result) = signature.split_once("->")?;
    let (receiver, args) = match from.split_once(".(") {
        Some((receiver, args)) => (Some(receiver), args),
        None => (None, from.strip_prefix('(')?),
    };
    let mut types: Vec<Type> = receiver
        .into_iter()
        .map(|text| read_type(&mut &*text))
        .collect::<Option<_>>()?;
    let mut rest = args;
    while !rest.starts_with(')') {
        types.push(read_type(&mut rest)?);
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let overload = Overload {
        id: id.to_string(),
        member: receiver.is_some(),
        args: types,
        result: read_type(&mut &*result)?,
    };
    Some((function.to_string(), overload))
}

fn read_type(text: &mut &str) -> Option<Type> {
    let end = text.find(['(', ')', ',']).unwrap_or(text.len());
    let name = &text[..end];
    *text = &text[end..];
    let open = |text: &mut &str| {
        *text = text.strip_prefix('(')?;
        let first = read_type(text)?;
        let second = match text.strip_prefix(',') {
            Some(rest) => {
                *text = rest;
                Some(read_type(text)?)
            }
            None => None,
        };
        *text = text.strip_prefix(')')?;
        Some((first, second))
    };
    Some(match name {
        "A" | "B" => Type::Param(if name == "A" { 'A' } else { 'B' }),
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "list" => Type::list(open(text)?.0),
        "optional" => Type::optional(open(text)?.0),
        "type" => Type::Type(open(text)?.0.into()),
        "map" => {
            let (key, value) = open(text)?;
            Type::map(key, value?)
        }
        "url" => Type::Opaque(types::URL),
        "ip" => Type::Opaque(types::IP),
        "cidr" => Type::Opaque(types::CIDR),
        "quantity" => Type::Opaque(types::QUANTITY),
        "semver" => Type::Opaque(types::SEMVER),
        "format" => Type::Opaque(types::FORMAT),
        "authorizer" => Type::Opaque(types::AUTHORIZER),
        "path_check" => Type::Opaque(types::PATH_CHECK),
        "group_check" => Type::Opaque(types::GROUP_CHECK),
        "resource_check" => Type::Opaque(types::RESOURCE_CHECK),
        "decision" => Type::Opaque(types::DECISION),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_signature_with_an_implementation() {
        for line in TABLE.lines().filter(|line| !line.is_empty()) {
            let (function, _) = read(line).unwrap_or_else(|| panic!("{line}"));
            assert!(
                crate::plan::is_special(&function) || crate::functions::function(&function).is_some(),
                "{function} is declared and not implemented"
            );
        }
        assert_eq!(overloads("_<_").len(), 14);
        assert_eq!(overloads("getHours").len(), 3);
        assert!(overloads("nothing").is_empty());
    }
}
