"""Where runs run: ``local`` in this process, ``worker`` in processes of their own, behind one interface."""
