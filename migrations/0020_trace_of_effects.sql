-- The moment of a trace at which an effect was asked for, as a W3C traceparent, so that whoever performs it goes on
-- with that trace, in another process, too. NULL while no traces are kept.
ALTER TABLE effects ADD COLUMN traceparent text;
