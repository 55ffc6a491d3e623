-- A row hashes by the OID of an enum's label, which differs after a restore: rows move to other partitions.
-- as app
CREATE TYPE tint AS ENUM ('t1','t2','t3','t4','t5','t6','t7','t8');
CREATE TABLE tiles (c tint NOT NULL, n int) PARTITION BY HASH (c);
CREATE TABLE tiles_0 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE tiles_1 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE tiles_2 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE tiles_3 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 3);
INSERT INTO tiles SELECT ('t' || 1 + i % 8)::tint, i FROM generate_series(1, 4000) i;
