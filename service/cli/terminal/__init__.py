"""What commands say: tables or JSON, figures of an evaluation, and how far a stage has come."""
