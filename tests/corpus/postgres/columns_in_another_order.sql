-- A child table and a partition whose columns came in another order than the parent's, one of them dropped.
-- as app
CREATE TABLE parent (a int, gone int, b text);
CREATE TABLE child (c date) INHERITS (parent);
ALTER TABLE parent DROP COLUMN gone;
ALTER TABLE parent ADD COLUMN d int;
INSERT INTO child VALUES (1, 'x', '2026-01-01', 4);
INSERT INTO parent VALUES (2, 'y', 5);
CREATE TABLE days (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE days_1 (n int, junk text, day date);
ALTER TABLE days_1 DROP COLUMN junk;
ALTER TABLE days ATTACH PARTITION days_1 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO days VALUES ('2026-02-03', 4);
