-- Partitions of partitions by list, range and hash, an attached one in another schema, a default one, an empty tree.
-- as app
CREATE SCHEMA archive;
CREATE TABLE orders (region text, day date, id int, note text) PARTITION BY LIST (region);
CREATE TABLE orders_eu PARTITION OF orders FOR VALUES IN ('eu') PARTITION BY RANGE (day);
CREATE TABLE orders_eu_26 PARTITION OF orders_eu FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id);
CREATE TABLE archive.eu_26_0 PARTITION OF orders_eu_26 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE archive.eu_26_1 PARTITION OF orders_eu_26 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
CREATE TABLE bare (a int) PARTITION BY RANGE (a);
ALTER TABLE orders ADD PRIMARY KEY (region, day, id);
CREATE TABLE lines (region text, day date, id int, FOREIGN KEY (region, day, id) REFERENCES orders);
INSERT INTO orders SELECT CASE i % 3 WHEN 0 THEN 'eu' ELSE 'us' END, '2026-01-01'::date + i % 300, i FROM generate_series(1, 500) i;
INSERT INTO lines SELECT region, day, id FROM orders;
