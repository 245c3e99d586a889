//! The error numbers with a label value of their own (MySQL manual, "Server Error Message Reference"; MariaDB knowledge
//! base, "MariaDB Error Code Reference"). All others share `other`.

use std::borrow::Cow;

/// The known error numbers, in ascending order.
const KNOWN: &[u16] = &[
    1004, 1005, 1006, 1007, 1008, 1009, 1010, 1012, 1016, 1017, 1020, 1021, 1022, 1024, 1025, 1026, 1030,
    1031, 1032, 1033, 1034, 1035, 1036, 1037, 1038, 1040, 1041, 1042, 1043, 1044, 1045, 1046, 1047, 1048,
    1049, 1050, 1051, 1052, 1053, 1054, 1055, 1056, 1058, 1059, 1060, 1061, 1062, 1063, 1064, 1065, 1066,
    1067, 1068, 1069, 1071, 1072, 1074, 1075, 1090, 1091, 1093, 1094, 1095, 1096, 1099, 1100, 1101, 1102,
    1103, 1104, 1105, 1109, 1110, 1111, 1114, 1115, 1116, 1118, 1129, 1130, 1132, 1133, 1136, 1138, 1139,
    1140, 1141, 1142, 1143, 1146, 1147, 1148, 1149, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160,
    1161, 1162, 1166, 1169, 1170, 1172, 1175, 1176, 1177, 1178, 1179, 1180, 1184, 1189, 1190, 1192, 1193,
    1194, 1195, 1198, 1200, 1201, 1203, 1205, 1206, 1207, 1210, 1211, 1213, 1214, 1215, 1216, 1217, 1222,
    1226, 1227, 1231, 1232, 1233, 1234, 1235, 1236, 1238, 1241, 1242, 1243, 1245, 1247, 1248, 1251, 1253,
    1254, 1264, 1265, 1267, 1271, 1273, 1286, 1290, 1292, 1295, 1297, 1300, 1304, 1305, 1312, 1317, 1318,
    1320, 1321, 1326, 1329, 1336, 1339, 1347, 1351, 1356, 1357, 1360, 1362, 1364, 1365, 1366, 1370, 1372,
    1390, 1392, 1396, 1397, 1398, 1399, 1400, 1401, 1402, 1406, 1410, 1411, 1412, 1414, 1415, 1418, 1419,
    1422, 1426, 1436, 1442, 1444, 1451, 1452, 1461, 1467, 1470, 1478, 1479, 1481, 1492, 1493, 1503, 1517,
    1526, 1568, 1577, 1592, 1615, 1635, 1644, 1665, 1677, 1690, 1698, 1712, 1726, 1727, 1792, 1794, 1799,
    1805, 1819, 1820, 1821, 1822, 1826, 1827, 1832, 1834, 1835, 1836, 1837, 1838, 1840, 1845, 1846, 1848,
    1850, 1858, 1862, 1872, 1885, 1927, 1968, 1969, 2013, 3009, 3020, 3024, 3032, 3058, 3065, 3100, 3101,
    3118, 3140, 3141, 3143, 3144, 3146, 3159, 3161, 3167, 3170, 3175, 3180, 3564, 3572, 3635, 3730, 3780,
    3819, 3820, 3948, 3950, 3955, 4025, 4031, 4036, 4078, 4151, 4166,
];

/// Symbols of the errors that operators meet, in ascending order. The dashboard and `docs/metrics.md` show them.
pub const SYMBOLS: &[(u16, &str)] = &[
    (1020, "ER_CHECKREAD"),
    (1021, "ER_DISK_FULL"),
    (1030, "ER_GET_ERRNO"),
    (1040, "ER_CON_COUNT_ERROR"),
    (1044, "ER_DBACCESS_DENIED_ERROR"),
    (1045, "ER_ACCESS_DENIED_ERROR"),
    (1047, "ER_UNKNOWN_COM_ERROR"),
    (1048, "ER_BAD_NULL_ERROR"),
    (1049, "ER_BAD_DB_ERROR"),
    (1053, "ER_SERVER_SHUTDOWN"),
    (1054, "ER_BAD_FIELD_ERROR"),
    (1062, "ER_DUP_ENTRY"),
    (1064, "ER_PARSE_ERROR"),
    (1114, "ER_RECORD_FILE_FULL"),
    (1129, "ER_HOST_IS_BLOCKED"),
    (1130, "ER_HOST_NOT_PRIVILEGED"),
    (1142, "ER_TABLEACCESS_DENIED_ERROR"),
    (1146, "ER_NO_SUCH_TABLE"),
    (1153, "ER_NET_PACKET_TOO_LARGE"),
    (1158, "ER_NET_READ_ERROR"),
    (1203, "ER_TOO_MANY_USER_CONNECTIONS"),
    (1205, "ER_LOCK_WAIT_TIMEOUT"),
    (1206, "ER_LOCK_TABLE_FULL"),
    (1213, "ER_LOCK_DEADLOCK"),
    (1226, "ER_USER_LIMIT_REACHED"),
    (1264, "ER_WARN_DATA_OUT_OF_RANGE"),
    (1290, "ER_OPTION_PREVENTS_STATEMENT"),
    (1292, "ER_TRUNCATED_WRONG_VALUE"),
    (1317, "ER_QUERY_INTERRUPTED"),
    (1366, "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD"),
    (1406, "ER_DATA_TOO_LONG"),
    (1451, "ER_ROW_IS_REFERENCED_2"),
    (1452, "ER_NO_REFERENCED_ROW_2"),
    (1792, "ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION"),
    (1836, "ER_READ_ONLY_MODE"),
    (1927, "ER_CONNECTION_KILLED"),
    (1969, "ER_STATEMENT_TIMEOUT"),
    (3024, "ER_QUERY_TIMEOUT"),
    (3159, "ER_SECURE_TRANSPORT_REQUIRED"),
    (3819, "ER_CHECK_CONSTRAINT_VIOLATED"),
    (4031, "ER_CLIENT_INTERACTION_TIMEOUT"),
];

/// Returns a known error number unchanged, and one number for all others.
#[must_use]
pub fn code(errno: u16) -> u16 {
    if KNOWN.binary_search(&errno).is_ok() { errno } else { u16::MAX }
}

/// Returns the label value of a [`code`].
#[must_use]
pub fn label(code: u16) -> Cow<'static, str> {
    if KNOWN.binary_search(&code).is_ok() { code.to_string().into() } else { "other".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_the_binary_search() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        assert!(SYMBOLS.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn each_error_with_a_symbol_has_a_label() {
        for (number, _) in SYMBOLS {
            assert_eq!(code(*number), *number);
        }
    }

    #[test]
    fn unknown_numbers_share_a_label() {
        assert_eq!(label(code(1146)), "1146");
        assert_eq!(label(code(60000)), "other");
    }
}
