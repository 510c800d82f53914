-- What would keep the schema from being sharded by workflow_id: no row is the good answer.
--     psql "$DATABASE_URL" -f docs/shards.sql
-- Copied to every shard, since they are small and seldom written: workflows, whose names are unique as a whole, and
-- the tables without workflow_id (keys, sessions, the one automation switch).
WITH sharded AS (
    SELECT c.oid AS table_oid, c.relname, a.attnum
      FROM pg_class AS c
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'workflow_id' AND NOT a.attisdropped
     WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace AND c.relname <> 'workflows'
)
SELECT s.relname AS "table", k.conname AS "key", 'does not contain workflow_id' AS "problem"
  FROM sharded AS s
  JOIN pg_constraint AS k ON k.conrelid = s.table_oid AND k.contype IN ('p', 'u')
 WHERE NOT s.attnum = ANY (k.conkey)
UNION ALL
SELECT s.relname, i.indexrelid::regclass::text, 'is unique without workflow_id'
  FROM sharded AS s
  JOIN pg_index AS i ON i.indrelid = s.table_oid AND i.indisunique
 WHERE NOT s.attnum = ANY (i.indkey::smallint[])
UNION ALL
SELECT s.relname, k.conname, 'refers to a sharded table without workflow_id'
  FROM sharded AS s
  JOIN pg_constraint AS k ON k.conrelid = s.table_oid AND k.contype = 'f'
  JOIN sharded AS other ON other.table_oid = k.confrelid
 WHERE NOT s.attnum = ANY (k.conkey)
UNION ALL
SELECT c.relname, '', 'has a trigger'
  FROM pg_trigger AS t
  JOIN pg_class AS c ON c.oid = t.tgrelid
 WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
 ORDER BY 1, 2;
