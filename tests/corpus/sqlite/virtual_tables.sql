-- not compared: far: virtual table, its rows are in its shadow tables or elsewhere
-- not compared: places: virtual table, its rows are in its shadow tables or elsewhere
-- not compared: w4: virtual table, its rows are in its shadow tables or elsewhere
-- not compared: words: virtual table, its rows are in its shadow tables or elsewhere
CREATE VIRTUAL TABLE words USING fts5 (body);
INSERT INTO words VALUES ('some words'), ('more');
CREATE VIRTUAL TABLE w4 USING fts4 (body);
INSERT INTO w4 VALUES ('some words');
CREATE VIRTUAL TABLE places USING rtree (id, x0, x1);
INSERT INTO places VALUES (1, 2, 3);
CREATE TABLE far_data (a);
INSERT INTO far_data VALUES (1);
PRAGMA writable_schema = ON;
INSERT INTO sqlite_master VALUES ('table', 'far', 'far', 0, 'CREATE VIRTUAL TABLE far USING no_such_module (a)');
