-- unsound: t: cannot be checked: cannot be read here: no such collation sequence: app_order
-- unsound: u: cannot be checked: cannot be read here: no such collation sequence: app_order
CREATE TABLE t (name TEXT COLLATE app_order PRIMARY KEY, n INT) WITHOUT ROWID;
CREATE TABLE u (name TEXT COLLATE app_order);
CREATE INDEX by_name ON u (name);
CREATE TABLE plain (a);
INSERT INTO t VALUES ('b', 1), ('a', 2);
INSERT INTO u VALUES ('b'), ('a');
INSERT INTO plain VALUES (1);
