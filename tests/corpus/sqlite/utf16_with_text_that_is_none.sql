PRAGMA encoding = 'UTF-16be';
CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, "ñ");
INSERT INTO t VALUES (1, 'ñandú 🙂', 'x'), (2, CAST(x'd8000041' AS TEXT), x'0041'), (3, CAST(x'00d8' AS TEXT), NULL), (4, '', 1.5);
CREATE INDEX i ON t (a);
