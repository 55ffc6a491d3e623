CREATE TABLE "" ("", "select", "a""b", "x	y", "rowid");
INSERT INTO "" VALUES (1, 2, 3, 4, 5);
CREATE TABLE "table" ("ñ", "名前", "a
b", `q``r`, [br]);
INSERT INTO "table" VALUES (1, 2, 3, 4, 5);
CREATE TABLE "main.t; DROP TABLE x --" ("'" INT, "🙂");
INSERT INTO "main.t; DROP TABLE x --" VALUES (1, 'x');
CREATE TABLE "back\slash" ("\x41");
CREATE TABLE "back\xe9" (a);
CREATE VIEW "order" AS SELECT "" FROM "";
CREATE INDEX "group" ON "table" ("ñ");
