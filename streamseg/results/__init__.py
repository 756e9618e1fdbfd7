"""Frame results: :mod:`.frame_result` makes them and reads them back, :mod:`.schema` describes their JSON."""
