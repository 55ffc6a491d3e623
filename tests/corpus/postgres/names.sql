-- Names with spaces, dots, quotes, capitals, percent signs, line breaks, reserved words and other alphabets.
-- as app
CREATE SCHEMA "Odd schema. x";
CREATE TABLE "Odd schema. x"."Ta""ble.""1" ("Select" int PRIMARY KEY, "a.b" text, "100%" text, "ñandú" int, "ancla:row" int);
CREATE TABLE "%s %(name)s" ("table" int);
CREATE TABLE "two
lines" (a int);
CREATE TABLE "-- as app" (a int);
CREATE TABLE "таблица" ("колонка" text);
INSERT INTO "Odd schema. x"."Ta""ble.""1" VALUES (1, 'a', 'b', 3, 4);
INSERT INTO "%s %(name)s" VALUES (1);
INSERT INTO "two
lines" VALUES (1);
INSERT INTO "-- as app" VALUES (2);
INSERT INTO "таблица" VALUES ('значение');
CREATE SEQUENCE "seq.with.dots";
SELECT nextval('"seq.with.dots"');
